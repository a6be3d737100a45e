from django.core.management.base import BaseCommand
from django.db.models import Count

from thumbnails.models import Picture


class Command(BaseCommand):
    help = "Counts pictures by the state of their thumbnails; tries again what was refused"

    def add_arguments(self, parser):
        parser.add_argument("--retry", action="store_true", help="try again what was refused")

    def handle(self, *args, retry, **options):
        if retry:
            for picture in Picture.objects.filter(state=Picture.State.REFUSED):
                picture.again()
        counts = dict(Picture.objects.order_by().values_list("state").annotate(Count("id")))
        for state in Picture.State:
            self.stdout.write(f"{state:<8} {counts.get(state, 0)}")

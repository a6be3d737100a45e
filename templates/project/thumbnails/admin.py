from django.contrib import admin

from .models import Picture


@admin.register(Picture)
class PictureAdmin(admin.ModelAdmin):
    list_display = ["name", "state", "why", "attempts", "created", "changed"]
    list_filter = ["state"]
    search_fields = ["name"]
    actions = ["try_again"]

    def has_add_permission(self, request):
        return False

    @admin.action(description="Try again")
    def try_again(self, request, pictures):
        for picture in pictures:
            picture.again()

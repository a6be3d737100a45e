{% if set_back %}

# The site's own settings are for HTTPS and services that are not here.
{% for setting in set_back %}
{{ setting.name }} = {{ setting.value }}
{% endfor %}
{% endif %}

{% if over_http %}

# The site's own settings are for HTTPS and services that are not here.
{% for setting in over_http %}
{{ setting.name }} = {{ setting.value }}
{% endfor %}
{% endif %}

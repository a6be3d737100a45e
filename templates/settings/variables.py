{% if variables %}
# What the settings read from the environment while they are imported. What the container was given counts over it.
ENVIRONMENT = {
{% for variable in variables %}
    "{{ variable.name }}": "{{ variable[place] }}",{{ "" if variable.is_known or place == "sample" else "  # imgforge does not know it" }}
{% endfor %}
}

{% endif %}

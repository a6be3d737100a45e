
# imgforge: begin of the environment. What is read from it below; `imgforge init` writes it anew.
# ENVIRONMENT of server_settings (on servers) or local_settings (a developer's). What the container was given counts over it.
try:
    import {{ settings_package }}server_settings as _given
except ModuleNotFoundError as error:
    if error.name != "{{ settings_package }}server_settings":
        raise
    try:
        import {{ settings_package }}local_settings as _given
    except ModuleNotFoundError as error:
        if error.name != "{{ settings_package }}local_settings":
            raise
        _given = None
if _given:
    import os as _os

    # Taken out of its module: it is no setting, and pages about errors show settings.
    for _name, _value in vars(_given).pop("ENVIRONMENT", {}).items():
        _os.environ.setdefault(_name, _value)
# imgforge: end of the environment.

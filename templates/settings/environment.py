
# imgforge: begin of the environment. What is read from it below; `imgforge init` writes it anew.
def _take_environment():
    """ENVIRONMENT of server_settings (on servers) or local_settings (a developer's). What the container was given counts over it."""
    import importlib.util
    import os
    import sys

    folder = os.path.join(os.path.dirname(__file__), "{{ settings_folder_from_variables }}")
    files = [os.path.join(folder, "server_settings.py"), os.path.join(folder, "local_settings.py")]
    file = next(filter(os.path.exists, files), None)
    if file is None:
        return
    # By its file: the package that it is in may be what asks for the environment.
    name = "{{ settings_package }}" + os.path.basename(file).removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, file)
    given = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(given)
    package, _, last = name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], last, given)
    # Taken out of its module: it is no setting, and pages about errors show settings.
    for variable, value in vars(given).pop("ENVIRONMENT", {}).items():
        os.environ.setdefault(variable, value)


_take_environment()
# imgforge: end of the environment.

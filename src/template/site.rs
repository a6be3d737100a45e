//! A Django project as it is found: which settings servers use, where its WSGI application is, what it requires.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::variables::Variables;
use super::{requirements, uv_lock};
use crate::error::{Error, Result};

/// Where requirements are looked for, the most fitting first.
const REQUIREMENTS: [&str; 5] = [
    "requirements/production.txt",
    "requirements/prod.txt",
    "requirements.txt",
    "requirements/base.txt",
    "requirements/requirements.txt",
];
/// What settings for servers are called, beside those for development.
const FOR_SERVERS: [&str; 2] = ["production", "prod"];
/// What settings for one developer are called: servers do not take them.
const FOR_DEVELOPERS: [&str; 5] = ["dev", "development", "local", "test", "testing"];
/// The compose file, and what it is called beside another.
const COMPOSE_FILE: &str = "docker-compose.yml";
const BESIDE_ANOTHER: &str = "docker-compose.imgforge.yml";
/// What compose looks for by itself.
const COMPOSE_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", COMPOSE_FILE];
/// What a new project takes.
const DJANGO: &str = "5.2.19";

/// A Django project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Nothing is there yet: the project is written, too.
    pub is_new: bool,
    /// The settings that servers use: `shop.settings`, `mysite.settings.production`.
    pub settings_module: String,
    /// Its file, from the project's folder.
    pub settings_file: PathBuf,
    /// The package that has wsgi.py, `shop`; empty when wsgi.py stands beside manage.py.
    pub package: String,
    /// The application as servers want it: `shop.wsgi:application`.
    pub wsgi: String,
    /// The requirements file or uv.lock, from the project's folder.
    pub requirements: Option<PathBuf>,
    /// The packages that it names.
    pub named: BTreeSet<String>,
    /// What the compose file is called: the project may have one of its own, for something else.
    pub compose_file: &'static str,
    /// The version of Django that a requirements file gets, when there is none.
    pub django: String,
    /// Whether those that manage.py names are others, and want variables, too.
    pub developers_want: bool,
    /// What its settings read from the environment.
    pub variables: Variables,
}

impl Site {
    /// The project that would be written into a folder without one.
    pub fn new(project: &str) -> Site {
        let package = project.replace('-', "_");
        Site {
            is_new: true,
            settings_module: format!("{package}.settings"),
            settings_file: Path::new(&package).join("settings.py"),
            wsgi: format!("{package}.wsgi:application"),
            package,
            requirements: None,
            named: BTreeSet::new(),
            compose_file: COMPOSE_FILE,
            django: DJANGO.into(),
            developers_want: false,
            variables: Variables::default(),
        }
    }

    /// Reads the project in `root`; `None` when there is no manage.py. `settings` names another settings module than the one
    /// that would be chosen.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] when something is missing that cannot be guessed.
    pub fn read(root: &Path, settings: Option<&str>) -> Result<Option<Site>> {
        let manage = root.join("manage.py");
        if !manage.is_file() {
            return match folders_with(root, "manage.py")?.pop_first() {
                Some(folder) => Err(Error::config(format!("manage.py is not here but in {folder}"))
                    .help(format!("imgforge -C {folder} init"))),
                None => Ok(None),
            };
        }
        let manage = fs_err::read_to_string(manage)?;
        let developers = settings_named(&manage);
        let unnamed = || {
            Error::config("manage.py names no settings module").help("name it: --settings PROJECT.settings")
        };
        let wsgi = wsgi(root)?;
        let settings_module = match settings {
            Some(settings) => settings.to_owned(),
            None => for_servers(root, developers.as_ref().ok_or_else(unnamed)?, &wsgi.text),
        };
        let settings_file = module_file(root, &settings_module).ok_or_else(|| {
            Error::config(format!("there is no settings module {settings_module}"))
                .help("name the one that servers use: --settings PROJECT.settings")
        })?;
        let is_there = |file: &PathBuf| root.join(file).is_file();
        let mut requirements = REQUIREMENTS.iter().map(PathBuf::from).find(is_there);
        if requirements.is_none() && root.join("pyproject.toml").is_file() {
            requirements = Some(PathBuf::from(uv_lock::FILE)).filter(is_there);
            if requirements.is_none() {
                return Err(unlocked(root));
            }
        }
        let named = match &requirements {
            Some(file) if file == Path::new(uv_lock::FILE) => uv_lock::named(&root.join(file))?,
            Some(file) => requirements::named(&root.join(file))?,
            None => BTreeSet::new(),
        };
        let text = fs_err::read_to_string(root.join(&settings_file))?;
        let variables = Variables::read(root, &settings_module);
        if variables.classes {
            let what = format!("{settings_module} has its settings in classes (django-configurations)");
            return Err(Error::config(what).help(
                "server_settings sets names of a module: write one that has the settings as names, and name it: \
                 --settings PROJECT.servers",
            ));
        }
        let others = developers.filter(|module| *module != settings_module);
        let developers_want = others.is_some_and(|module| !Variables::read(root, &module).wanted.is_empty());
        Ok(Some(Site {
            is_new: false,
            developers_want,
            django: started_with(&text).unwrap_or_else(|| DJANGO.into()),
            variables,
            settings_module,
            settings_file,
            compose_file: compose_file(root)?,
            wsgi: wsgi.application,
            package: wsgi.package,
            requirements,
            named,
        }))
    }

    /// Whether wsgi.py stands beside manage.py, in no package.
    pub fn is_flat(&self) -> bool {
        self.package.is_empty()
    }

    /// The folder of the package, from the project's.
    pub fn package_folder(&self) -> String {
        self.package.replace('.', "/")
    }

    /// What `celery --app` takes. A module `celery` beside manage.py would hide the library.
    pub fn celery_app(&self) -> &str {
        if self.is_flat() { "celery_app" } else { &self.package }
    }

    /// What stands before the name of a file beside the settings: `shop/`, or nothing.
    pub fn settings_folder(&self) -> String {
        let folder = self.settings_file.parent().map(|folder| folder.display().to_string());
        folder.filter(|folder| !folder.is_empty()).map(|folder| folder + "/").unwrap_or_default()
    }

    /// What stands before the name of a module beside the settings: `shop.`, or nothing.
    pub fn settings_package(&self) -> String {
        self.settings_folder().replace('/', ".")
    }

    /// The file that asks the environment first: the settings, or a package around them.
    pub fn variables_file(&self) -> &Path {
        self.variables.earlier.as_deref().unwrap_or(&self.settings_file)
    }

    /// The same as `settings_folder`, from the folder of `variables_file`.
    pub fn settings_folder_from_variables(&self) -> String {
        let folder = self.settings_folder();
        let around = self.variables_file().parent().and_then(Path::to_str).unwrap_or_default();
        folder.strip_prefix(around).unwrap_or(&folder).trim_start_matches('/').to_owned()
    }

    /// The requirements file, also when it is still to be written.
    pub fn requirements_file(&self) -> String {
        self.requirements
            .as_ref()
            .map_or_else(|| "requirements.txt".into(), |file| file.display().to_string())
    }

    /// Whether uv.lock has the requirements.
    pub fn is_locked(&self) -> bool {
        self.requirements.as_deref() == Some(Path::new(uv_lock::FILE))
    }

    /// What a Dockerfile copies before it installs packages: files that name one another come together.
    pub fn requirements_copy(&self) -> String {
        if self.is_locked() {
            return format!("pyproject.toml {} ./", uv_lock::FILE);
        }
        match self.requirements_file().split_once('/') {
            Some((folder, _)) => format!("{folder} {folder}/"),
            None => format!("{} ./", self.requirements_file()),
        }
    }
}

/// What imgforge's compose file is called in `root`: one of the project's own, which takes no images of imgforge's, stays.
fn compose_file(root: &Path) -> Result<&'static str> {
    for file in COMPOSE_FILES.iter().map(|file| root.join(file)).filter(|file| file.is_file()) {
        if !fs_err::read_to_string(file)?.contains("${IMGFORGE_") {
            return Ok(BESIDE_ANOTHER);
        }
    }
    Ok(COMPOSE_FILE)
}

/// Packages are named in pyproject.toml alone, and in no versions.
fn unlocked(root: &Path) -> Error {
    let error = Error::config("the project has pyproject.toml, and neither uv.lock nor requirements.txt");
    if root.join("poetry.lock").is_file() {
        return error
            .help("poetry export --output requirements.txt   (with the plugin poetry-plugin-export)");
    }
    error.help("uv lock")
}

/// The folders below `root` that have a file of this name.
fn folders_with(root: &Path, file: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs_err::read_dir(root)? {
        let entry = entry?;
        if entry.path().join(file).is_file() {
            found.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// The string that a file gives to DJANGO_SETTINGS_MODULE, in the same line or a later one.
fn settings_named(text: &str) -> Option<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let code = code.join("\n");
    let (_, after) = code.split_once("DJANGO_SETTINGS_MODULE")?;
    let name = after.trim_start_matches(['"', '\'']).split(['"', '\'']).nth(1)?;
    let is_module = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "._".contains(c));
    is_module.then(|| name.to_owned())
}

/// Of the settings for development and those that wsgi.py names, what servers should use.
fn for_servers(root: &Path, developers: &str, wsgi: &str) -> String {
    let of_wsgi = settings_named(wsgi);
    let is_for_developers =
        |module: &str| module.rsplit('.').next().is_some_and(|name| FOR_DEVELOPERS.contains(&name));
    let chosen = of_wsgi.unwrap_or_else(|| developers.to_owned());
    if !is_for_developers(&chosen) {
        return chosen;
    }
    let package = chosen.rsplit_once('.').map_or(String::new(), |(package, _)| format!("{package}."));
    let siblings = FOR_SERVERS.iter().map(|name| format!("{package}{name}"));
    siblings.into_iter().find(|module| module_file(root, module).is_some()).unwrap_or(chosen)
}

/// The file of a module, from `root`.
pub fn module_file(root: &Path, module: &str) -> Option<PathBuf> {
    let path = PathBuf::from(module.replace('.', "/"));
    [path.with_extension("py"), path.join("__init__.py")].into_iter().find(|file| root.join(file).is_file())
}

struct Wsgi {
    package: String,
    application: String,
    text: String,
}

/// wsgi.py: in a folder below, or beside manage.py.
fn wsgi(root: &Path) -> Result<Wsgi> {
    let package = folders_with(root, "wsgi.py")?.pop_first().unwrap_or_default();
    let file = root.join(&package).join("wsgi.py");
    if !file.is_file() {
        return Err(Error::config("there is no wsgi.py, neither beside manage.py nor in a folder there")
            .help("a site without WSGI cannot be run by gunicorn or uWSGI"));
    }
    let application =
        if package.is_empty() { "wsgi:application".into() } else { format!("{package}.wsgi:application") };
    Ok(Wsgi { package, application, text: fs_err::read_to_string(file)? })
}

/// The version in the first lines that `django-admin startproject` writes: "using Django 5.2.19."
fn started_with(settings: &str) -> Option<String> {
    let after = settings.split("using Django ").nth(1)?;
    let version = after.split_whitespace().next()?.trim_end_matches('.');
    version.chars().all(|c| c.is_ascii_digit() || c == '.').then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::project;

    fn manage(settings: &str) -> String {
        format!("import os\n\nos.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"{settings}\")\n")
    }

    #[test]
    fn the_settings_are_named_in_code_and_not_in_a_comment() {
        let text = "# os.environ[\"DJANGO_SETTINGS_MODULE\"] = \"old.settings\"\nos.environ.setdefault(\n    \
                    \"DJANGO_SETTINGS_MODULE\",\n    \"mysite.settings.dev\",\n)\n";
        assert_eq!(settings_named(text).as_deref(), Some("mysite.settings.dev"));
        assert_eq!(settings_named("DJANGO_SETTINGS_MODULE = name\n"), None);
    }

    #[test]
    fn a_project_as_startproject_leaves_it() {
        let header = "\"\"\"\nGenerated by 'django-admin startproject' using Django 5.2.19.\n\"\"\"\n";
        let folder = project(&[
            ("manage.py", &manage("shop.settings")),
            ("shop/settings.py", header),
            ("shop/wsgi.py", &manage("shop.settings")),
        ]);
        let site = Site::read(folder.path(), None).unwrap().unwrap();
        assert_eq!(
            (site.settings_module.as_str(), site.settings_package().as_str()),
            ("shop.settings", "shop.")
        );
        assert_eq!((site.settings_folder().as_str(), site.wsgi.as_str()), ("shop/", "shop.wsgi:application"));
        assert_eq!((site.django.as_str(), site.requirements.clone()), ("5.2.19", None));
        assert_eq!(site.requirements_copy(), "requirements.txt ./");
    }

    #[test]
    fn settings_for_servers_are_preferred_to_those_for_development() {
        let folder = project(&[
            ("manage.py", &manage("mysite.settings.dev")),
            ("mysite/wsgi.py", &manage("mysite.settings.dev")),
            ("mysite/settings/__init__.py", ""),
            ("mysite/settings/dev.py", ""),
            ("mysite/settings/production.py", ""),
            ("requirements/base.txt", "Django\n"),
            ("requirements/production.txt", "-r base.txt\n"),
        ]);
        let site = Site::read(folder.path(), None).unwrap().unwrap();
        assert_eq!(site.settings_module, "mysite.settings.production");
        assert_eq!(site.settings_folder(), "mysite/settings/");
        assert_eq!(site.requirements_copy(), "requirements requirements/");
        assert!(site.named.contains("django"));
        let named = Site::read(folder.path(), Some("mysite.settings.dev")).unwrap().unwrap();
        assert_eq!(named.settings_module, "mysite.settings.dev");
        let error = Site::read(folder.path(), Some("mysite.settings.nothing")).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Config);
    }

    #[test]
    fn settings_may_be_a_package_or_ask_for_variables_in_one_around_them() {
        let folder = project(&[
            ("manage.py", &manage("mysite.settings")),
            ("mysite/wsgi.py", ""),
            ("mysite/__init__.py", "import os\nA = os.environ['A']\n"),
            ("mysite/settings/__init__.py", "from .base import *\n"),
            ("mysite/settings/base.py", ""),
        ]);
        let site = Site::read(folder.path(), None).unwrap().unwrap();
        assert_eq!(site.settings_package(), "mysite.settings.");
        assert_eq!(site.settings_folder(), "mysite/settings/");
        assert_eq!(site.variables_file(), Path::new("mysite/__init__.py"));
        assert_eq!(site.settings_folder_from_variables(), "settings/");
    }

    #[test]
    fn settings_in_classes_are_refused() {
        for import in [
            "from configurations import Configuration",
            "import configurations",
            "from configurations.base import A",
        ] {
            let folder = project(&[
                ("manage.py", &manage("mysite.settings")),
                ("mysite/wsgi.py", ""),
                ("mysite/settings.py", &format!("{import}\n")),
            ]);
            let error = Site::read(folder.path(), None).unwrap_err();
            assert_eq!(error.what(), "mysite.settings has its settings in classes (django-configurations)");
            fs_err::write(folder.path().join("configurations.py"), "").unwrap();
            Site::read(folder.path(), None).unwrap();
        }
    }

    #[test]
    fn requirements_may_be_in_a_lock() {
        let files =
            [("manage.py", manage("settings")), ("settings.py", String::new()), ("wsgi.py", String::new())];
        let files = files.each_ref().map(|(file, text)| (*file, text.as_str()));
        let folder = project(&files);
        fs_err::write(folder.path().join("pyproject.toml"), "[project]\nname = \"shop\"\n").unwrap();
        assert_eq!(Site::read(folder.path(), None).unwrap_err().help_text(), Some("uv lock"));
        fs_err::write(folder.path().join("poetry.lock"), "").unwrap();
        assert!(
            Site::read(folder.path(), None).unwrap_err().help_text().unwrap().starts_with("poetry export")
        );
        fs_err::write(folder.path().join("uv.lock"), "version = 1\n").unwrap();
        let site = Site::read(folder.path(), None).unwrap().unwrap();
        assert!(site.is_locked());
        assert_eq!(site.requirements_copy(), "pyproject.toml uv.lock ./");
        fs_err::write(folder.path().join("requirements.txt"), "Django\n").unwrap();
        assert!(!Site::read(folder.path(), None).unwrap().unwrap().is_locked());
    }

    #[test]
    fn a_project_without_a_package_of_its_own() {
        let folder = project(&[("manage.py", &manage("settings")), ("settings.py", ""), ("wsgi.py", "")]);
        let site = Site::read(folder.path(), None).unwrap().unwrap();
        assert!(site.is_flat());
        assert_eq!((site.settings_package().as_str(), site.settings_folder().as_str()), ("", ""));
        assert_eq!((site.wsgi.as_str(), site.celery_app()), ("wsgi:application", "celery_app"));
    }

    #[test]
    fn a_compose_file_of_the_projects_own_stays() {
        let folder = project(&[("manage.py", &manage("settings")), ("settings.py", ""), ("wsgi.py", "")]);
        let named = || Site::read(folder.path(), None).unwrap().unwrap().compose_file;
        assert_eq!(named(), "docker-compose.yml");
        fs_err::write(folder.path().join("docker-compose.yml"), "image: ${IMGFORGE_WEB}\n").unwrap();
        assert_eq!(named(), "docker-compose.yml");
        fs_err::write(folder.path().join("compose.yaml"), "services: {}\n").unwrap();
        assert_eq!(named(), "docker-compose.imgforge.yml");
    }

    #[test]
    fn a_project_one_folder_below_is_pointed_at() {
        let folder = project(&[("sandbox/manage.py", &manage("settings"))]);
        let error = Site::read(folder.path(), None).unwrap_err();
        assert_eq!(error.help_text(), Some("imgforge -C sandbox init"));
        assert_eq!(
            Site::read(&folder.path().join("sandbox").join(".."), None).unwrap_err().kind(),
            error.kind()
        );
        let empty = project(&[]);
        assert_eq!(Site::read(empty.path(), None).unwrap(), None);
    }
}

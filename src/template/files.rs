//! The files that `init` writes: where each comes from, where it goes, and when.

use super::Ci;

/// When a file belongs to a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Always.
    Every,
    /// Where no Django project is yet.
    NewProject,
    /// Where no requirements file is yet.
    NoRequirements,
    /// Where wsgi.py is in a package.
    Package,
    /// Where it is beside manage.py.
    Flat,
    /// Where settings cannot be imported without variables of the environment.
    Variables,
    /// Engine docker.
    Docker,
    /// Bases made of Debian packages.
    Debian,
    /// Where this service runs the pipeline.
    Ci(Ci),
}

/// How a file is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// It is init's own.
    Whole,
    /// Some lines of it are.
    Lines,
    /// A marked block of it is, at its end.
    Block,
    /// Another one, before its first statement.
    Start,
    /// It is the user's from the first moment, and nobody else's.
    Secret,
}

/// A file.
pub(super) struct File {
    /// Where it goes, from the project's folder; a template.
    pub(super) path: &'static str,
    /// What is in it.
    pub(super) text: &'static str,
    pub(super) part: Part,
    pub(super) form: Form,
    /// Whether the text is taken as it is.
    pub(super) verbatim: bool,
}

/// A file whose text is a template.
macro_rules! file {
    ($form:ident, $part:ident, $path:literal, $source:literal) => {
        File {
            path: $path,
            text: include_str!(concat!("../../", $source)),
            part: Part::$part,
            form: Form::$form,
            verbatim: false,
        }
    };
}

/// A file that is copied.
macro_rules! copied {
    ($part:ident, $path:literal, $source:literal) => {
        File { verbatim: true, ..file!(Whole, $part, $path, $source) }
    };
}

/// A file of the Django project.
macro_rules! module {
    ($path:literal) => {
        File {
            path: $path,
            text: include_str!(concat!("../../templates/project/", $path)),
            part: Part::Every,
            form: Form::Whole,
            verbatim: true,
        }
    };
}

/// A file that is mostly another template.
macro_rules! included {
    ($form:ident, $path:literal, $text:ident) => {
        File { path: $path, text: $text, part: Part::Every, form: Form::$form, verbatim: false }
    };
}

/// A pipeline.
macro_rules! pipeline {
    ($ci:ident, $path:literal, $source:literal) => {
        File { part: Part::Ci(Ci::$ci), ..file!(Whole, Every, $path, $source) }
    };
}

/// Every file, in the order in which they are told.
pub(super) const FILES: &[File] = &[
    file!(Whole, NewProject, "manage.py", "templates/new/manage.py"),
    file!(Whole, NewProject, "{{ package_folder }}/__init__.py", "templates/new/__init__.py"),
    file!(Whole, NewProject, "{{ package_folder }}/settings.py", "templates/new/settings.py"),
    file!(Whole, NewProject, "{{ package_folder }}/urls.py", "templates/new/urls.py"),
    file!(Whole, NewProject, "{{ package_folder }}/wsgi.py", "templates/new/wsgi.py"),
    copied!(
        NewProject,
        "{{ package_folder }}/templates/{{ package_folder }}/front.html",
        "templates/new/front.html"
    ),
    copied!(NewProject, "{{ package_folder }}/static/site.css", "templates/new/site.css"),
    file!(Whole, NoRequirements, "requirements.txt", "templates/new/requirements.txt"),
    file!(Whole, Every, "imgforge.toml", "templates/imgforge.toml"),
    file!(Whole, Every, "{{ compose_file }}", "templates/docker-compose.yml"),
    file!(Lines, Every, ".dockerignore", "templates/dockerignore"),
    file!(Lines, Every, ".gitignore", "templates/gitignore"),
    file!(Whole, Docker, "dockerfiles/web.Dockerfile", "dockerfiles/web.Dockerfile"),
    file!(Whole, Docker, "dockerfiles/nginx.Dockerfile", "dockerfiles/nginx.Dockerfile"),
    file!(Whole, Every, "dockerfiles/requirements.txt", "dockerfiles/requirements.txt"),
    file!(Whole, Every, "dockerfiles/start-worker", "dockerfiles/start-worker"),
    file!(Whole, Every, "dockerfiles/start-beat", "dockerfiles/start-beat"),
    copied!(Every, "dockerfiles/start-web", "dockerfiles/start-web"),
    copied!(Every, "dockerfiles/gunicorn.conf.py", "dockerfiles/gunicorn.conf.py"),
    copied!(Every, "dockerfiles/uwsgi.ini", "dockerfiles/uwsgi.ini"),
    copied!(Every, "dockerfiles/nginx.conf", "dockerfiles/nginx.conf"),
    copied!(Every, "dockerfiles/start-nginx", "dockerfiles/start-nginx"),
    copied!(Debian, "dockerfiles/start-postgres", "dockerfiles/start-postgres"),
    module!("custom_sessions.py"),
    module!("custom_storages.py"),
    module!("health.py"),
    file!(Whole, Package, "{{ package_folder }}/celery.py", "templates/project/celery.py"),
    file!(Block, Package, "{{ package_folder }}/__init__.py", "templates/project/init.py"),
    file!(Whole, Flat, "celery_app.py", "templates/project/celery.py"),
    module!("thumbnails/__init__.py"),
    module!("thumbnails/admin.py"),
    module!("thumbnails/apps.py"),
    module!("thumbnails/fields.py"),
    module!("thumbnails/models.py"),
    module!("thumbnails/pictures.py"),
    module!("thumbnails/tasks.py"),
    module!("thumbnails/tests.py"),
    module!("thumbnails/management/__init__.py"),
    module!("thumbnails/management/commands/__init__.py"),
    module!("thumbnails/management/commands/thumbnails.py"),
    module!("thumbnails/migrations/0001_initial.py"),
    module!("thumbnails/migrations/__init__.py"),
    module!("thumbnails/static/thumbnails/none.svg"),
    module!("thumbnails/static/thumbnails/waiting.svg"),
    module!("thumbnails/templates/thumbnails/thumbnail.html"),
    module!("thumbnails/templatetags/__init__.py"),
    module!("thumbnails/templatetags/thumbnails.py"),
    file!(Start, Variables, "{{ variables_file }}", "templates/settings/environment.py"),
    file!(Block, Every, "{{ settings_file }}", "templates/settings/block.py"),
    included!(Whole, "{{ settings_folder }}local_settings.py.sample", DEVELOPER),
    included!(Whole, "{{ settings_folder }}server_settings.py.{{ project }}", SAMPLE),
    included!(Secret, "secrets/server_settings.py.{{ project }}", LOCAL),
    file!(Secret, Every, "secrets/postgres_password", "templates/settings/postgres_password"),
    file!(Secret, Every, "secrets/rabbitmq.conf", "templates/settings/rabbitmq.conf"),
    copied!(Every, "cloudformation/site.yaml", "templates/cloudformation/site.yaml"),
    pipeline!(Circleci, ".circleci/config.yml", "templates/ci/circleci.yml"),
    pipeline!(Circleci, "circle.yml", "templates/ci/circleci.yml"),
    pipeline!(Github, ".github/workflows/release.yml", "templates/ci/github.yml"),
    pipeline!(Gitlab, ".gitlab-ci.yml", "templates/ci/gitlab.yml"),
];

/// What other templates include, by name.
pub(super) const INCLUDED: &[(&str, &str)] = &[
    ("server_settings.py", include_str!("../../templates/settings/server_settings.py")),
    ("local_settings.py", include_str!("../../templates/settings/local_settings.py.sample")),
    ("variables.py", include_str!("../../templates/settings/variables.py")),
    ("set_back.py", include_str!("../../templates/settings/set_back.py")),
];

/// The settings of servers, to be filled in.
const SAMPLE: &str = "{% set place = 'sample' %}{% include 'server_settings.py' %}";
/// The settings of the containers on this machine, ready to be used.
const LOCAL: &str = "{% set place = 'local' %}{% include 'server_settings.py' %}";
/// The settings of a developer, to be copied.
const DEVELOPER: &str = "{% set place = 'developer' %}{% include 'local_settings.py' %}";

//! imgforge.toml: what is read from it, and how each mistake is told. No daemon, no network.

use imgforge::config::{
    BaseConfig, BuildSecret, Compression, Config, EngineName, Mode, Owner, Store, Target,
};
use imgforge::error::{Error, Kind};

/// The example of docs/configuration.md, with every table.
const FULL: &str = include_str!("config/full.toml");

fn environment(name: &str) -> Option<String> {
    (name == "BUCKET_NAME").then(|| "shop-secrets".to_owned())
}

fn parse(text: &str, environment_name: Option<&str>) -> Result<Config, Error> {
    Config::parse("/site".into(), text, environment_name, &environment)
}

fn error(text: &str) -> Error {
    parse(text, None).map(|_| ()).unwrap_err()
}

/// What, line:column, help.
fn told(error: &Error) -> String {
    let (line, column) = error.located().map(|place| place.line_column()).unwrap_or_default();
    format!("{} @{line}:{column} {}", error.what(), error.help_text().unwrap_or("-"))
}

#[test]
fn every_table_is_read() {
    let config = parse(FULL, None).unwrap();
    assert_eq!(config.project.get_ref(), "shop");
    let secrets = config.secrets.as_ref().unwrap();
    assert_eq!(secrets.store, Store::Dir("secrets".into()));
    assert_eq!(config.build.secrets["pip_token"], BuildSecret::Env("PIP_TOKEN".into()));
    assert_eq!(config.build.compression, Compression::Zstd);
    assert!(
        matches!(config.bases["python"].get_ref(), BaseConfig::Debian(debian) if debian.suite == "bookworm")
    );
    let bake = &config.images["web"].bake;
    assert_eq!((bake[0].owner, bake[0].mode), (Owner { uid: 1000, gid: 1000 }, Mode(0o400)));
    assert_eq!((bake[1].owner, bake[1].mode), (Owner { uid: 0, gid: 0 }, Mode(0o440)));
    assert_eq!(config.deploy.as_ref().unwrap().once[0].command[1], "manage.py");
    let worker = &config.images["worker"];
    assert_eq!(worker.engine(), EngineName::Direct);
    assert_eq!(worker.directories[0].get_ref().mode, Mode(0o750));
    let settings = worker.settings.as_ref().unwrap().get_ref();
    assert_eq!(settings.expose[0].0, "8000/tcp");
    assert_eq!(settings.healthcheck.as_ref().unwrap().interval, Some(std::time::Duration::from_secs(10)));
}

#[test]
fn an_environment_lies_over_the_file_and_variables_are_filled_in() {
    let config = parse(FULL, Some("production")).unwrap();
    let secrets = config.secrets.as_ref().unwrap();
    assert_eq!(secrets.store, Store::S3 { bucket: "shop-secrets".into(), prefix: "live".into() });
    assert_eq!(secrets.files.len(), 2, "what the overlay does not name stays");
    let deploy = config.deploy.as_ref().unwrap();
    assert_eq!(*deploy.target.get_ref(), Target::Ecs);
    assert_eq!(deploy.once.len(), 1);
    assert!(
        matches!(config.bases["python"].get_ref(), BaseConfig::Image(image) if image == "python:3.13-slim")
    );
}

#[test]
fn the_default_environment_needs_no_variable_of_another() {
    let config = Config::parse("/site".into(), FULL, None, &|_| None).unwrap();
    assert_eq!(config.environment, "local");
}

#[test]
fn a_variable_that_is_not_set_is_named_where_it_is_needed() {
    let error = Config::parse("/site".into(), FULL, Some("production"), &|_| None).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(error.what(), "the environment variable BUCKET_NAME is not set");
    let place = error.located().unwrap();
    assert!(place.text[place.span.clone()].contains("${BUCKET_NAME}"));
}

#[test]
fn mistakes_are_told_with_their_place_and_the_way_out() {
    let cases = [
        ("projet = \"shop\"", "unknown key \"projet\" @1:1 did you mean \"project\"?"),
        (
            "project = \"shop\"\n[images.web]\ndockerfil = \"x\"",
            "unknown key \"dockerfil\" @3:1 did you mean \"dockerfile\"?",
        ),
        ("project = \"shop\"\n[deploy]\ntarget = \"ec2\"", "unknown key \"ec2\" @3:10 did you mean \"ecs\"?"),
        (
            "project = \"shop\"\n[deploy]\ntarget = \"ecs\"\nservice = []",
            "at least one service is wanted @4:11",
        ),
        (
            "project = \"shop\"\n[deploy]\ntarget = \"ecs\"\nservice = [\"web\", \"web\"]",
            "the service \"web\" is named twice @4:19",
        ),
        (
            "project = \"shop\"\n[env.live.deploy]\ntarget = \"ecs\"\nservice = [\"web\", \"arn:aws:ecs:eu-west-1:0:service/shop/web\"]",
            "the service \"web\" is named twice @4:19 each is switched once, in the order of the list",
        ),
        (
            "project = \"shop\"\n[deploy]\ntarget = \"ecs\"\nservice = [\"web\", \"\"]",
            "a service has a name @4:19",
        ),
        (
            "project = \"shop\"\n[deploy]\ntarget = \"ecs\"\nservice = [\"web\", 1]",
            "invalid type: integer `1`, expected a string @4:19",
        ),
        (
            "project = \"shop\"\n[deploy]\ntarget = \"ecs\"\nservice = 1",
            "invalid type: integer `1`, expected a service's name, or a list of names @4:11",
        ),
        (
            "project = \"shop\"\n[build]\ncompression = \"zst\"",
            "unknown key \"zst\" @3:15 did you mean \"zstd\"? (known: gzip, zstd)",
        ),
        ("project = \"Shop\"", "a project's name is lower case letters, digits and dashes @1:11"),
        ("project = shop", "imgforge.toml is not valid TOML:"),
        ("[images.web]\ndockerfile = \"x\"", "missing field `project` @"),
        (
            "project = \"shop\"\n[bases.python]\nimage = \"a\"\n[images.web]\nbase = \"pyhton\"",
            "image \"web\" starts from an unknown base @5:8 did you mean \"python\"?",
        ),
        (
            "project = \"shop\"\n[bases.python]\nimage = \"a\"\nlayout = \"b\"",
            "a base has exactly one of: image, layout, debian @",
        ),
        (
            "project = \"shop\"\n[secrets]\nstore = \"ftp://x\"",
            "a secret store is \"s3://BUCKET[/prefix]\" or \"dir:PATH\" @3:9",
        ),
        (
            "project = \"shop\"\n[images.web]\nbake = [{ secret = \"settings\", path = \"/s\" }]",
            "unknown secret file \"settings\" @3:20 name it under [secrets.files]",
        ),
        ("project = \"shop\"\n[deploy]\ntarget = \"ecs\"", "target \"ecs\" needs a cluster @3:10"),
        (
            "project = \"shop\"\n[deploy]\ntarget = \"compose\"\ntimeout = \"soon\"",
            "a duration such as \"90s\" or \"15m\" is wanted @4:11",
        ),
    ];
    for (text, want) in cases {
        let error = error(text);
        assert_eq!(error.kind(), Kind::Config, "{text}");
        let told = told(&error);
        assert!(told.starts_with(want), "{text}\n  told: {told}\n  want: {want}");
    }
}

#[test]
fn owners_modes_and_paths_of_baked_files_are_checked() {
    let bake = |file: &str| {
        format!(
            "project = \"shop\"\n[secrets]\nstore = \"dir:s\"\nfiles = {{ a = \"a.py\" }}\n\
             [images.web]\nbake = [{{ secret = \"a\", {file} }}]"
        )
    };
    let cases = [
        ("path = \"/s\", owner = \"docker\"", "an owner is \"UID:GID\" in numbers"),
        ("path = \"/s\", mode = \"999\"", "a mode is an octal string"),
        ("path = \"/s\", mode = \"4755\"", "a mode is an octal string"),
        ("path = \"s\"", "a baked file's path is absolute and plain"),
        ("path = \"/a/../s\"", "a baked file's path is absolute and plain"),
        ("path = \"/a/\"", "a baked file's path is absolute and plain"),
        ("path = \"/a/.wh.s\"", "a baked file's path is absolute and plain"),
    ];
    for (file, want) in cases {
        let error = error(&bake(file));
        assert!(error.what().starts_with(want), "{file}: {}", error.what());
    }
    assert!(parse(&bake("path = \"/s\", mode = \"0440\""), None).is_ok());
}

#[test]
fn a_typo_in_an_environment_that_is_not_in_use_is_found() {
    let error = error("project = \"shop\"\n[env.production]\nregistri.repository = \"x\"");
    assert!(
        told(&error).starts_with("unknown key \"registri\" @3:1 did you mean \"registry\"?"),
        "{}",
        told(&error)
    );
}

#[test]
fn an_unknown_environment_is_told_with_the_nearest() {
    let error = parse(FULL, Some("prodution")).map(|_| ()).unwrap_err();
    assert_eq!(error.help_text(), Some("did you mean \"production\"?"));
}

#[test]
fn one_service_and_a_list_of_them_keep_their_order() {
    for (written, names) in
        [("\"web\"", vec!["web"]), ("[\"web\", \"${WORKER}\", \"beat\"]", vec!["web", "worker", "beat"])]
    {
        let text = format!(
            "project = \"shop\"\n[deploy]\ntarget = \"ecs\"\ncluster = \"shop\"\nservice = {written}"
        );
        let worker = |name: &str| (name == "WORKER").then(|| "worker".to_owned());
        let config = Config::parse("/site".into(), &text, None, &worker).unwrap();
        let services = config.written.deploy.unwrap().service.unwrap();
        assert_eq!(services.names().collect::<Vec<_>>(), names);
    }
}

#[test]
fn blue_green_is_refused_before_anything_starts() {
    let text = "project = \"shop\"\n[deploy]\ntarget = \"ecs\"\ncluster = \"c\"\nservice = \"s\"\nstrategy = \"blue-green\"";
    assert_eq!(error(text).kind(), Kind::Refused);
}

#[test]
fn what_an_image_without_a_dockerfile_is_made_of_is_checked() {
    let direct = |tables: &str| {
        format!(
            "project = \"shop\"\n[bases.python]\nimage = \"a\"\n[images.web]\nbase = \"python\"\nengine = \"direct\"\n{tables}"
        )
    };
    let cases = [
        ("dockerfile = \"x\"", "engine \"direct\" runs no Dockerfile @7:14 take it away"),
        ("target = \"x\"", "engine \"direct\" has no stages and no build arguments @6:10"),
        ("[images.web.pyton]\n", "unknown key \"pyton\" @7:13 did you mean \"python\"?"),
        ("[images.web.python]\ncompile = true", "there are no packages to install @7:1"),
        (
            "[images.web.python]\npackages = [\"--index-url=x\"]",
            "a package is a name with what it must be @8:13",
        ),
        (
            "[images.web.python]\npackages = [\"a\"]\nversion = \"3\"",
            "a Python version is such as \"3.11\" @9:11",
        ),
        (
            "[images.web.python]\nrequirements = \"pylock.toml\"\npackages = [\"a\"]",
            "packages cannot be added to those of pylock.toml @9:13",
        ),
        ("[[images.web.copy]]\nto = \"code\"", "a path in an image is absolute and plain"),
        ("[[images.web.copy]]\nto = \"/a/../b\"", "a path in an image is absolute and plain"),
        (
            "[[images.web.copy]]\nfrom = \"../other\"\nto = \"/a\"",
            "copy.from is a path below the build context @8:8 set context",
        ),
        ("[[images.web.copy]]\nfrm = \"x\"", "unknown key \"frm\" @8:1 did you mean \"from\"?"),
        ("[images.web.static]\ncommand = []\nfrom = \"static\"\nto = \"/a\"", "the command is empty @8:11"),
        (
            "[[images.web.users]]\nname = \"do:cker\"\nuid = 1",
            "a user's name is lower case letters, digits, - and _ @8:8",
        ),
        (
            "[images.web.config]\nexpose = [\"http\"]",
            "a port is a string such as \"8000\" or \"53/udp\" @8:10",
        ),
        (
            "[images.web.config]\nhealthchek = {}",
            "unknown key \"healthchek\" @8:1 did you mean \"healthcheck\"?",
        ),
        (
            "[images.web.config]\nenv = { \"A=B\" = \"c\" }",
            "image \"web\" sets \"A=B\", which is not a variable's name",
        ),
    ];
    for (tables, want) in cases {
        let told = told(&error(&direct(tables)));
        assert!(told.starts_with(want), "{tables}\n  told: {told}\n  want: {want}");
    }
    let error = error("project = \"shop\"\n[images.web]\nengine = \"direct\"");
    assert!(told(&error).starts_with("image \"web\" has no base @3:10"), "{}", told(&error));
}

#[test]
fn tables_of_engine_direct_are_refused_beside_a_dockerfile() {
    for table in
        ["[images.web.python]\npackages = [\"a\"]", "[[images.web.copy]]\nto = \"/a\"", "[images.web.config]"]
    {
        let error = error(&format!("project = \"shop\"\n[images.web]\ndockerfile = \"x\"\n{table}"));
        let told = told(&error);
        assert!(told.starts_with("image \"web\" is built from a Dockerfile, which says this @4:"), "{told}");
    }
}

#[test]
fn the_example_of_the_docs_is_a_configuration() {
    let page = include_str!("../../docs/direct.md");
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let head = "project = \"shop\"\n[secrets]\nstore = \"dir:s\"\nfiles = { server_settings = \"s.py\" }\n\
                [bases.python]\nimage = \"python\"\n";
    let config = parse(&format!("{head}{example}"), None).unwrap();
    let image = &config.images["web"];
    assert!(image.python.is_some() && image.statics.is_some() && image.settings.is_some());
}

#[test]
fn the_caches_size_is_a_number_with_a_unit() {
    let parse = |size: &str| {
        let text = format!("project = \"shop\"\n[build]\ncache_size = \"{size}\"\n");
        Config::parse("/site".into(), &text, None, &|_| None).map(|config| config.build.cache_size.0)
    };
    assert_eq!(parse("500MB").unwrap(), 500_000_000);
    assert_eq!(parse("2 GB").unwrap(), 2_000_000_000);
    for wrong in ["10", "GB", "10GiB", "-1GB", "99999999999TB"] {
        let error = parse(wrong).unwrap_err();
        assert!(format!("{error:?}").contains("such as"), "{wrong}: {error:?}");
    }
}

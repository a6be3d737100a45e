use super::*;
use crate::template::project;

fn wanted_by(settings: &str) -> Vec<(String, Kind)> {
    let folder = project(&[("settings.py", settings)]);
    let variables = Variables::read(folder.path(), "settings");
    variables.wanted.into_iter().map(|variable| (variable.name, variable.kind)).collect()
}

fn names(settings: &str) -> Vec<String> {
    wanted_by(settings).into_iter().map(|(name, _)| name).collect()
}

/// Each of these settings, after a common start.
#[track_caller]
fn each_wants(start: &str, cases: &[&str], wanted: &[&str]) {
    for settings in cases {
        assert_eq!(names(&format!("{start}{settings}\n")), wanted, "{settings}");
    }
}

#[test]
fn every_way_to_ask_is_understood_and_says_what_it_reads() {
    let cases = [
        ("import os\nA = os.environ['X']", Kind::Text),
        ("import os as system\nA = system.environ['X'].strip()", Kind::Text),
        ("from os import environ\nA = environ['X'].split(',')", Kind::List),
        ("from os import environ as e\nA = int(e['X'])", Kind::Number),
        ("import os, dj_database_url\nA = dj_database_url.parse(os.environ['X'])", Kind::Database),
        ("import environ\nenv = environ.Env()\nA = env('X')", Kind::Text),
        ("import environ\nenv = environ.Env()\nA = env('X', int)", Kind::Number),
        ("import environ\nenv = environ.Env(X=bool)\nA = env.bool('X')", Kind::Bool),
        ("import environ\nA = environ.Env().json('X')", Kind::Json),
        ("from environ import Env\nenv = Env()\nA = {'default': env.db('X')}", Kind::Database),
        ("from environ import FileAwareEnv as E\ne = E()\nA = [*e.list('X', str)]", Kind::List),
        ("from environs import Env\nenv = Env()\nA = env.dj_db_url('X')", Kind::Database),
        ("from environs import env\nwith env.prefixed('X'):\n    A = env.int('')", Kind::Number),
        ("from decouple import config\nA = config('X')", Kind::Text),
        ("from decouple import config, Csv\nA = config('X', cast=Csv())", Kind::List),
        ("import decouple\nA = decouple.config('X', cast=bool)", Kind::Bool),
        ("import decouple as d\nc = d.Config(d.RepositoryEnv('.env'))\nA = c('X')", Kind::Text),
        ("import os\nA = os.environ.get('X').strip()", Kind::Text),
        ("import os\nA = os.environ.get('X', None).split(',')", Kind::List),
        ("import os\nA = [int(n) for n in (os.getenv('X')).split()]", Kind::List),
        ("import os\nX = os.environ.get('X')\nA = int(X)", Kind::Number),
        ("import os, json\nA = json.loads(os.environ.get('X'))", Kind::Json),
        ("import os\nA = 'https://' + os.environ.get('X') + '/'", Kind::Text),
        ("import os\nA = Path(os.environ.get('X'))[0]", Kind::Text),
        ("import os\nclass A:\n    B = f\"{os.environ['X']}\"", Kind::Text),
    ];
    for (settings, kind) in cases {
        assert_eq!(wanted_by(settings), [("X".to_owned(), kind)], "{settings}");
    }
    let unnamed = "import environ\nenv = environ.Env()\nA = env.db()\nB = env.cache_url()";
    assert_eq!(names(unnamed), ["DATABASE_URL", "CACHE_URL"]);
}

#[test]
fn what_has_a_default_is_not_wanted() {
    let cases = [
        "import os\nA = os.environ.get('X')\nB = os.getenv('X', '1')",
        "import os\nos.environ['X'] = '1'\nA = os.environ['X']",
        "import os\nos.environ.setdefault('X', '1')\nA = os.environ['X']",
        "import environ\nenv = environ.Env()\nA = env('X', default=None)\nB = env('X', str, '')",
        "import environ\nenv = environ.Env()\nA = env.bool('X', False)\nB = env.list('X', str, [])",
        "import environ\nenv = environ.Env(X=(bool, False))\nA = env('X')",
        "import environ\nenv = environ.Env()\nA = env('X', **more)\nenviron.Env.read_env('X')",
        "from environs import Env\nenv = Env()\nA = env('X', '')\nB = env.list('X', [])\nenv.read_env('X')",
        "from decouple import config\nA = config('X', '1')\nB = config('X', default='')",
        "import os\nA = os.environ['DJANGO_SETTINGS_MODULE']",
        "A = env('X')\nB = environ['X']\nC = config('X')",
        "import os\ndef read():\n    return os.environ['X']\nA = lambda: os.environ['X']",
    ];
    for settings in cases {
        assert_eq!(names(settings), [] as [String; 0], "{settings}");
    }
}

#[test]
fn a_branch_is_followed_when_it_is_taken_with_nothing_set() {
    let taken = [
        "if not os.environ.get('DEVELOPS'):\n    A = os.environ['X']",
        "if os.environ.get('PLACE', 'server') in ('server', 'stage'):\n    A = os.environ['X']",
        "if os.environ.get('DEVELOPS'):\n    A = 1\nelse:\n    A = os.environ['X']",
        "DEBUG = env.bool('DEBUG', default=False)\nif not DEBUG:\n    A = os.environ['X']",
        "A = os.environ['X'] if 'SITE' not in os.environ else 'x'",
        "A = os.environ.get('Y') or os.environ['X']",
        "if something():\n    A = os.environ['X']",
        "if 'test' in sys.argv:\n    os.environ['X'] = 'x'\nA = os.environ['X']",
        "if something():\n    os.environ.setdefault('X', 'x')\nA = os.environ['X']",
        "A = os.environ.get('X')\nif not A:\n    raise ValueError('X')",
        "A = os.getenv('X')\nif A is None and not os.environ.get('DEBUG'):\n    sys.exit('X')",
        "if 'X' not in os.environ:\n    raise ValueError('X')",
        "assert os.environ.get('X'), 'X'",
        "A = os.environ.get('X', '')\nif not A:\n    raise ValueError('X')",
        "A = env.str('X', default='')\nif A == '':\n    raise ValueError('X')",
        "if 'X' in os.environ:\n    A = os.environ['X']\nelse:\n    raise ValueError('X')",
        "E = os.environ.get('X')\nif E == 'a':\n    A = 1\nelif E == 'b':\n    A = 2\nelse:\n    raise ValueError(E)",
        "try:\n    A = int(os.environ.get('X'))\nexcept KeyError:\n    A = 1",
        "A = os.path.join(BASE, os.environ.get('X'))",
        "A = BASE / os.environ.get('X')",
        "class Foo:\n    def env(self, name):\n        return name\nA = env('X')",
        "try:\n    from decouple import config\nexcept ImportError:\n    def config(key):\n        return os.environ.get(key)\nA = config('X')",
        "try:\n    A = os.environ['X']\nexcept KeyError:\n    sys.exit('X')",
        "try:\n    A = os.environ['X']\nexcept KeyError:\n    if not DEBUG:\n        raise",
        "if something():\n    S3 = True\nelif False:\n    S3 = None\nelse:\n    S3 = False\nif S3:\n    A = os.environ['X']",
        "try:\n    A = os.environ['X']\nexcept KeyError:\n    raise ValueError('X')",
        "try:\n    import absent\nexcept ImportError:\n    A = os.environ['X']",
        "S3 = False\nif something():\n    S3 = True\nif S3:\n    A = os.environ['X']",
    ];
    let not_taken = [
        "if 'X' in os.environ:\n    A = os.environ['X']",
        "USE_S3 = os.getenv('USE_S3', 'False').lower() == 'true'\nif USE_S3:\n    A = os.environ['X']",
        "if int(os.environ.get('S3', 0)):\n    A = os.environ['X']",
        "if env.bool('S3', default=False) and True:\n    A = os.environ['X']\nelif None:\n    B = env('X')",
        "A = os.environ['X'] if os.environ.get('X') else ''",
        "A = (os.environ.get('X') or '').split(',')",
        "X = os.environ.get('X')\nA = X.split() if X else []\nif X is not None:\n    B = int(X)",
        "if not os.environ.get('X'):\n    os.environ['X'] = 'x'\nA = os.environ['X'].split()",
        "X = os.environ.get('X')\nif not X:\n    X = 'x'\nA = X.split()",
        "X = os.environ.get('X')\nif X == None:\n    print('no X')\nA = str(X)",
        "try:\n    A = int(os.environ.get('X'))\nexcept Exception:\n    A = 1",
        "try:\n    A = int(os.environ.get('X'))\nexcept (TypeError, ValueError):\n    A = 1",
        "try:\n    A = os.environ.get('X').split()\nexcept AttributeError:\n    A = []",
        "X = os.environ.get('X')\nfor X in ['a']:\n    A = X.upper()",
        "cache.set(os.environ.get('X'))",
        "DEBUG = True\nX = os.environ.get('X')\nif not X:\n    if not DEBUG:\n        raise ValueError('X')",
        "X = os.environ.get('X', '')\nif X == '':\n    A = X.strip().split()",
        "A = os.environ.get('Y', 'y') or os.environ['X']",
        "try:\n    A = os.environ['X']\nexcept (KeyError, ValueError):\n    A = ''",
        "try:\n    A = env('X')\nexcept environ.ImproperlyConfigured:\n    pass",
    ];
    let start = "import os, environ\nenv = environ.Env()\n";
    each_wants(start, &taken, &["X"]);
    each_wants(start, &not_taken, &[]);
}

#[test]
fn functions_of_the_project_that_ask_for_who_calls_them_are_known() {
    let fails = [
        "def get(name):\n    return os.environ[name]\nA = get('X')",
        "def get(name):\n    try:\n        return os.environ[name]\n    except KeyError:\n        raise ValueError(name)\nA = get('X')",
        "def get(name, default=None):\n    try:\n        return os.environ[name]\n    except KeyError:\n        \
         if default is not None:\n            return default\n        raise\nA = get('Y', '')\nB = get(name='X')",
        "def get(key):\n    value = os.getenv(key)\n    if not value:\n        raise ValueError(key)\n    return value\nA = get('X')",
        "def get(key, default=None):\n    return env(key, default=default)\ndef need(key):\n    return env(key)\nA = get('Y')\nB = need('X')",
        "def get(name, default='False'):\n    return os.environ.get(name, default).lower() in ('1', 'true')\n\
         DEBUG = get('DEBUG')\nif not DEBUG:\n    A = os.environ['X']",
        "def get(name, default='0'):\n    return int(os.environ.get(name, default))\nif get('S3', '1'):\n    pass\n\
         if not get('S3'):\n    A = os.environ['X']",
        "def get(name, default_val=None):\n    if default_val is None and name not in os.environ:\n        raise ValueError(name)\n    \
         return os.environ.get(name, default_val)\nA = get('Y', 'a')\nB = get('X')",
        "def get(key, cast):\n    return cast(os.environ[key])\nA = get('X', int)",
    ];
    let goes_on = [
        "def get(name, default=''):\n    return os.environ.get(name, default)\nA = get('X')\nB = get('Y', 1)",
        "def get(name):\n    try:\n        return os.environ[name]\n    except KeyError:\n        return ''\nA = get('X')",
        "def get(name):\n    return other[name]\nA = get('X')",
        "def get(name, default=None):\n    if name in os.environ:\n        return os.environ[name]\n    return default\nA = get('X')",
        "def get(name, default=None):\n    return os.environ[name] if name in os.environ else default\nA = get('X')",
        "def get(name, default=False):\n    text = os.environ.get(name)\n    if text is None:\n        return default\n    \
         if text not in ('0', '1'):\n        raise ValueError(name)\n    return text == '1'\nA = get('X')",
        "def get(name, default=None, required=False):\n    text = os.environ.get(name, default)\n    \
         if required and text is None:\n        raise ValueError(name)\n    return text\nA = get('X')",
        "def get(name, default=None):\n    return os.environ.get(name) or default or []\nA = get('X') + ['a']",
        "def get(name):\n    if name not in os.environ:\n        raise RuntimeError(name)\n    return os.environ[name]\n\
         try:\n    A = get('X')\nexcept RuntimeError:\n    A = ''",
        "def get(name, default=False):\n    return env.bool(name, default)\nif get('S3'):\n    A = os.environ['X']",
    ];
    let start = "import os, environ\nenv = environ.Env()\n";
    each_wants(start, &fails, &["X"]);
    each_wants(start, &goes_on, &[]);
    let folder = project(&[
        ("shop/__init__.py", ""),
        ("shop/env.py", "import os\ndef need(name):\n    return os.environ[name]\n"),
        (
            "shop/settings.py",
            "from shop.env import need\nfrom . import env\nA = need('ONE')\nB = int(env.need('TWO'))\n",
        ),
    ]);
    let wanted = Variables::read(folder.path(), "shop.settings").wanted;
    let wanted: Vec<_> = wanted.iter().map(|variable| (variable.name.as_str(), variable.kind)).collect();
    assert_eq!(wanted, [("ONE", Kind::Text), ("TWO", Kind::Number)]);
}

#[test]
fn modules_of_the_project_are_followed_also_in_circles() {
    let folder = project(&[
        ("config/__init__.py", ""),
        ("config/env.py", "import environ\nenv = environ.Env()\n"),
        ("config/settings/__init__.py", ""),
        (
            "config/settings/base.py",
            "from ..env import env\nfrom .production import *\nA = env.db('ONE')\nSECURE_SSL_REDIRECT = True\n",
        ),
        ("config/settings/mail.py", "from config.env import env as e\nB = e.int('TWO')\n"),
        (
            "config/settings/production.py",
            "from .base import *\nfrom .base import env\nfrom . import mail\nimport config.env\nfrom absent import *\n\
             try:\n    from .local_settings import *\nexcept ImportError:\n    pass\n\
             SECRET_KEY = env('THREE')\nDATABASES = {'default': {'HOST': config.env.env('FOUR')}}\n\
             DATABASES['default']['PORT'] = mail.e('FIVE')\n",
        ),
        ("config/settings/local_settings.py", "import os\nos.environ['NEVER']\n"),
    ]);
    let variables = Variables::read(folder.path(), "config.settings.production");
    let told = variables.wanted.iter().map(|variable| {
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        (variable.name.clone(), word(&variable.setting), word(&variable.key))
    });
    let want = [
        ("ONE", "A", ""),
        ("TWO", "B", ""),
        ("THREE", "SECRET_KEY", ""),
        ("FOUR", "DATABASES", "HOST"),
        ("FIVE", "DATABASES", "PORT"),
    ];
    let want = want.map(|(name, setting, key)| (name.to_owned(), setting.to_owned(), key.to_owned()));
    assert_eq!(told.collect::<Vec<_>>(), want);
    assert!(variables.sets("SECURE_SSL_REDIRECT") && variables.sets("HOST") && !variables.sets("NEVER"));
    assert_eq!(variables.earlier, None);
}

#[test]
fn files_that_are_included_are_read_where_they_are() {
    let folder = project(&[
        (
            "shop/settings/__init__.py",
            "from split_settings.tools import include, optional\nfrom decouple import config\n\
             FILES = ['components/*.py', 'servers.py']\nFILES += [optional('local.py'), f'places/{PLACE}.py']\n\
             include(*FILES)\ninclude('last.py', 'more/{0}.py'.format(PLACE))\n",
        ),
        ("shop/settings/components/mail.py", "MAIL = config('TWO')\nDEBUG = config('THREE', cast=bool)\n"),
        ("shop/settings/components/common.py", "from decouple import config\nKEY = config('ONE')\n"),
        ("shop/settings/servers.py", "from split_settings.tools import include\ninclude('last.py')\n"),
        ("shop/settings/last.py", "include('last.py')\nLAST = config('FOUR')\n"),
        ("shop/settings/local.py", "LOCAL = config('NEVER')\n"),
        ("shop/settings/places/production.py", "include('beside.py')\n"),
        ("shop/settings/places/beside.py", "PLACE = config('FIVE')\n"),
        ("shop/settings/places/development.py", "PLACE = config('NEVER')\n"),
        ("shop/settings/more/production.py", "MORE = config('SIX')\n"),
    ]);
    let wanted = Variables::read(folder.path(), "shop.settings").wanted;
    let names: Vec<_> = wanted.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX"]);
}

#[test]
fn a_package_that_asks_before_its_settings_is_named() {
    let folder = project(&[
        ("site/__init__.py", ""),
        ("site/settings/__init__.py", "from .base import *\n"),
        ("site/settings/base.py", "import os\nA = os.environ['X']\n"),
        ("site/settings/production.py", "from .base import *\n"),
    ]);
    let variables = Variables::read(folder.path(), "site.settings.production");
    assert_eq!(variables.earlier.as_deref(), Some(Path::new("site/settings/__init__.py")));
    assert_eq!(variables.wanted.len(), 1);
    let variables = Variables::read(folder.path(), "site.settings");
    assert_eq!(variables.earlier, None);
}

#[test]
fn long_chains_are_read_once() {
    let chain = ".strip()".repeat(200);
    assert_eq!(
        names(&format!("import os\nA = os.environ.get('Y', 'y'){chain}\nB = os.environ['X']{chain}\n")),
        ["X"]
    );
}

#[test]
fn what_is_no_python_wants_nothing() {
    assert_eq!(names("A = = 1\nimport os\nos.environ['X']\n"), [] as [String; 0]);
    let folder = project(&[]);
    assert_eq!(Variables::read(folder.path(), "absent.settings"), Variables::default());
}

#[test]
fn what_a_secret_file_gives_is_read_without_running_it() {
    let text = "A = 1\nENVIRONMENT = {\n    \"ONE\": \"1\",  # why\n    'TWO': A,\n    **more,\n}\n";
    let names = given(text).unwrap();
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), ["ONE", "TWO"]);
    assert_eq!(given("A = 1\n"), None);
    assert_eq!(given("ENVIRONMENT = dict(A=1)\n"), None);
}

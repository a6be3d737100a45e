//! What the template makes: on moto where moto makes it, and by the template's own text.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::PARAMETERS;
use crate::support::moto::Moto;
use crate::support::policy::{Call, Policy};
use crate::support::production::BUCKET;
use crate::support::s3;
use crate::support::stack::{Stack, TEMPLATE, tool};

#[test]
fn cfn_lint_finds_nothing_and_cloudformation_takes_it_without_a_bucket() {
    let done = tool("cfn-lint").arg(TEMPLATE).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.trim().is_empty(), "{said}");
    let text = std::fs::read_to_string(TEMPLATE).unwrap();
    // CreateStack API reference, TemplateBody.
    assert!(text.len() <= 51_200, "{} bytes", text.len());
    // CloudFormation user guide, "Template format": aliases are not read.
    let anchor =
        |line: &&str| line.split_whitespace().any(|word| word.len() > 1 && word.starts_with(['&', '*']));
    let anchors: Vec<&str> =
        text.lines().filter(|line| !line.trim_start().starts_with('#')).filter(anchor).collect();
    assert!(anchors.is_empty(), "{anchors:?}");
    // Both would be read as a part of a template, and so must not be in it: `imgforge init` writes it as it is.
    assert!(!text.contains("{{ ") && !text.contains("{%"));
}

#[test]
fn every_parameter_is_in_one_group_and_only_what_nobody_can_guess_has_no_default() {
    let moto = Moto::start();
    let stack = Stack::create(&moto.url, "shop", &PARAMETERS);
    let template = &stack.state["template"];
    let groups =
        template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"].as_array().unwrap();
    let mut grouped: Vec<&str> = groups
        .iter()
        .flat_map(|group| group["Parameters"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    grouped.sort_unstable();
    let parameters = template["Parameters"].as_object().unwrap();
    let mut names: Vec<&str> = parameters.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(grouped, names);
    let wanted: BTreeSet<&str> =
        parameters.iter().filter(|(_, at)| at["Default"].is_null()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(wanted, PARAMETERS.map(|(name, _)| name).into());
    let hidden: BTreeSet<&str> =
        parameters.iter().filter(|(_, at)| at["NoEcho"] == true).map(|(name, _)| name.as_str()).collect();
    assert_eq!(hidden, ["DatabasePassword", "BrokerPassword", "DockerAuthToken", "DockerEmail"].into());
}

#[tokio::test]
async fn buckets_are_closed_and_files_are_open_to_the_vpcs_endpoint_alone() {
    let moto = Moto::start();
    let stack = Stack::create(&moto.url, "shop", &PARAMETERS);
    let media = stack.resource("MediaBucket");
    let s3 = s3::client(&moto.url).await;
    for (name, bucket) in [("MediaBucket", media), ("SecretsBucketMade", BUCKET)] {
        let encryption = s3.get_bucket_encryption().bucket(bucket).send().await.unwrap();
        let rule = &encryption.server_side_encryption_configuration().unwrap().rules()[0];
        let by = rule.apply_server_side_encryption_by_default().unwrap();
        assert_eq!(by.sse_algorithm().as_str(), "AES256", "{bucket}");
        // moto leaves these out.
        let properties = properties(&stack, name);
        assert_eq!(properties["VersioningConfiguration"], json!({"Status": "Enabled"}));
        let block = properties["PublicAccessBlockConfiguration"].as_object().unwrap();
        assert!(block.len() == 4 && block.values().all(|on| on == true), "{name}");
    }
    let anyone = |action: &str, key: &str| {
        Call::new(action, format!("arn:aws:s3:::{media}/{key}")).with("aws:SecureTransport", "true")
    };
    let endpoint = stack.resource("S3Endpoint");
    let inside = |call: Call| call.with("aws:SourceVpce", endpoint);
    let files = Policy::parse(stack.policy("MediaBucketPolicy"));
    assert!(files.allows(&inside(anyone("s3:GetObject", "static/site.css"))));
    assert!(files.allows(&inside(anyone("s3:GetObject", "media/a/b.jpg"))));
    assert!(!files.allows(&anyone("s3:GetObject", "static/site.css")), "from the internet");
    let elsewhere = anyone("s3:GetObject", "media/a").with("aws:SourceVpce", "vpce-0123456789abcdef0");
    assert!(!files.allows(&elsewhere), "from another VPC");
    assert!(!files.allows(&inside(anyone("s3:GetObject", "backup.sql"))), "another folder");
    assert!(!files.allows(&inside(anyone("s3:PutObject", "media/a"))), "to write");
    assert!(!files.allows(&inside(anyone("s3:GetObject", "media/a")).with("aws:SecureTransport", "false")));
    let list =
        Call::new("s3:ListBucket", format!("arn:aws:s3:::{media}")).with("aws:SecureTransport", "true");
    assert!(!files.allows(&inside(list)));
    // Nobody who has no permission of his own, by any way.
    let secret = Call::new("s3:GetObject", format!("arn:aws:s3:::{BUCKET}/ecs.config"));
    let secrets = Policy::parse(stack.policy("SecretsBucketPolicy"));
    assert!(!secrets.allows(&inside(secret.with("aws:SecureTransport", "true"))));
}

#[test]
fn instances_read_two_secret_files_and_the_site_its_own_files() {
    let moto = Moto::start();
    let stack = Stack::create(&moto.url, "shop", &PARAMETERS);
    let secret = |action: &str, key: &str| Call::new(action, format!("arn:aws:s3:::{BUCKET}/{key}"));
    let instance = Policy::parse(stack.policy("ecsInstanceRole"));
    assert!(instance.allows(&secret("s3:GetObject", "ecs.config")));
    assert!(instance.allows(&secret("s3:GetObject", "server_settings.py.shop")));
    for key in ["imgforge.salt", "server_settings.py.blog", "server_settings.py.shop2", "ecs.config/x"] {
        assert!(!instance.allows(&secret("s3:GetObject", key)), "{key}");
    }
    assert!(!instance.allows(&secret("s3:PutObject", "ecs.config")));
    let list =
        |prefix: &str| Call::new("s3:ListBucket", format!("arn:aws:s3:::{BUCKET}")).with("s3:prefix", prefix);
    assert!(instance.allows(&list("ecs.config")));
    assert!(!instance.allows(&list("")));
    assert_eq!(instance.actions(), ["s3:GetObject", "s3:ListBucket"].map(String::from).into());

    let site = Policy::parse(stack.policy("TaskRole"));
    let media = stack.resource("MediaBucket");
    let file = |action: &str, key: &str| Call::new(action, format!("arn:aws:s3:::{media}/{key}"));
    for action in ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"] {
        assert!(
            site.allows(&file(action, "media/a.png")) && site.allows(&file(action, "static/a.css")),
            "{action}"
        );
        assert!(!site.allows(&file(action, "backup.sql")), "{action}");
        assert!(!site.allows(&secret(action, "server_settings.py.shop")), "{action}");
    }
    assert!(site.allows(&Call::new("s3:ListBucket", format!("arn:aws:s3:::{media}"))));
    assert!(!site.allows(&list("")));
}

#[tokio::test]
async fn no_image_that_a_revision_may_name_is_ever_deleted() {
    let moto = Moto::start();
    let stack = Stack::create(&moto.url, "shop", &PARAMETERS);
    let ecr = aws_sdk_ecr::Client::new(&moto.config().await);
    let answer = ecr.describe_repositories().send().await.unwrap();
    let mut names = BTreeSet::new();
    for repository in answer.repositories() {
        names.insert(repository.repository_name().unwrap().to_owned());
        assert_eq!(repository.image_tag_mutability().unwrap().as_str(), "IMMUTABLE");
    }
    // moto leaves this out.
    for name in ["WebRepository", "NginxRepository"] {
        assert_eq!(properties(&stack, name)["ImageScanningConfiguration"], json!({"ScanOnPush": true}));
    }
    assert_eq!(names, ["shop-nginx", "shop-web"].map(String::from).into());
    assert!(
        properties(&stack, "NginxRepository")["LifecyclePolicy"].is_null(),
        "what runs can have a build tag"
    );
    let rules =
        properties(&stack, "WebRepository")["LifecyclePolicy"]["LifecyclePolicyText"].as_str().unwrap();
    let rules: Value = serde_json::from_str(rules).unwrap();
    let rules = rules["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(rules[0]["selection"]["tagStatus"], "tagged");
    assert_eq!(rules[0]["selection"]["tagPrefixList"], json!(["build-"]));
}

/// Of a resource in the template.
fn properties<'s>(stack: &'s Stack, name: &str) -> &'s Value {
    &stack.state["template"]["Resources"][name]["Properties"]
}

#[test]
fn services_run_the_site_from_one_image_and_beat_never_twice() {
    let moto = Moto::start();
    let stack = Stack::create(&moto.url, "shop", &PARAMETERS);
    let definition = |name: &str| &stack.state["definitions"][name]["taskDefinition"];
    let containers = |name: &str| definition(name)["containerDefinitions"].as_array().unwrap().clone();
    let repository = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let [nginx, web] = &containers("WebDefinition")[..] else { panic!("two containers") };
    assert_eq!((&nginx["name"], &web["name"]), (&json!("nginx"), &json!("web")));
    assert_eq!(nginx["links"], json!(["web"]));
    assert_eq!(nginx["portMappings"], json!([{"containerPort": 8080, "hostPort": 0, "protocol": "tcp"}]));
    let media = stack.resource("MediaBucket");
    let environment = json!([
        {"name": "APP_SERVER", "value": "web:8000"},
        {"name": "FILES", "value": format!("https://{media}.s3.eu-west-1.amazonaws.com")},
    ]);
    assert_eq!(nginx["environment"], environment);
    assert_eq!(nginx["image"], format!("{repository}/shop-nginx:none"));
    for (name, container, command) in [
        ("WebDefinition", "web", Value::Null),
        ("WorkerDefinition", "worker", json!(["sh", "dockerfiles/start-worker"])),
        ("BeatDefinition", "beat", json!(["sh", "dockerfiles/start-beat"])),
    ] {
        let containers = containers(name);
        let at = containers.iter().find(|at| at["name"] == container).unwrap();
        assert_eq!(at["image"], format!("{repository}/shop-web:none"));
        assert_eq!(at["command"], command);
        assert_eq!(at["environment"], json!([{"name": "SERVER", "value": "gunicorn"}]));
        assert_eq!(at["logConfiguration"]["options"]["awslogs-group"], "/ecs/shop");
        assert_eq!(definition(name)["networkMode"], "bridge");
        assert!(definition(name)["taskRoleArn"].as_str().unwrap().contains("TaskRole"));
        let resource = &stack.state["template"]["Resources"][name];
        assert_eq!(
            (&resource["DeletionPolicy"], &resource["UpdateReplacePolicy"]),
            (&json!("Retain"), &json!("Retain"))
        );
    }
    for name in ["WebService", "WorkerService", "BeatService"] {
        let breaker = &properties(&stack, name)["DeploymentConfiguration"]["DeploymentCircuitBreaker"];
        assert_eq!(*breaker, json!({"Enable": true, "Rollback": true}), "{name}");
    }
    let beat = properties(&stack, "BeatService");
    assert_eq!(beat["DeploymentConfiguration"]["MinimumHealthyPercent"], 0);
    assert_eq!(beat["DeploymentConfiguration"]["MaximumPercent"], 100);
    assert_eq!(beat["AvailabilityZoneRebalancing"], "DISABLED");
    assert_eq!(stack.state["template"]["Parameters"]["BeatCount"]["AllowedValues"], json!([0, 1]));
}

#[test]
fn nginx_outlives_the_load_balancers_idle_connections() {
    let nginx = std::fs::read_to_string("dockerfiles/nginx.conf").unwrap();
    let seconds = |directive: &str| -> u32 {
        let line = nginx.lines().map(str::trim).find_map(|line| line.strip_prefix(directive)).unwrap();
        line.trim().trim_end_matches("s;").parse().unwrap()
    };
    let moto = Moto::start();
    let stack = Stack::create(&moto.url, "shop", &PARAMETERS);
    let attributes = properties(&stack, "LoadBalancer")["LoadBalancerAttributes"].as_array().unwrap();
    let idle = attributes.iter().find(|at| at["Key"] == "idle_timeout.timeout_seconds").unwrap();
    let idle: u32 = idle["Value"].as_str().unwrap().parse().unwrap();
    assert!(seconds("keepalive_timeout ") > idle, "a connection that nginx closes is a 502");
    assert!(
        seconds("proxy_read_timeout ") <= idle,
        "the load balancer would not wait for an answer that comes"
    );
}

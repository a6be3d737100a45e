//! Releases that go well.

use aws_sdk_ecr::types::ImageTagMutability;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::reference;
use crate::support::production::{Production, password};

/// The images of the revision that the service is at, by container.
fn running(production: &Production) -> Vec<(String, String)> {
    let world = production.ecs.world();
    let definition = &world.definitions[&world.service.primary().revision]["taskDefinition"];
    let containers = definition["containerDefinitions"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    containers.map(|container| (text(&container["name"]), text(&container["image"]))).collect()
}

#[test]
fn a_release_reaches_the_service_by_digest_and_its_secret_is_in_one_blob_of_the_registry() {
    let production = Production::new();
    let ended = production
        .program()
        .with("RUST_LOG", "trace")
        .run(&["release", "-e", "production", "--output", "json"])
        .ok();
    let release = ended.result()["release"].clone();
    let reference = reference(&release);
    let digest = release["images"][0]["digest"].as_str().unwrap();
    let repository = format!("{}/{}-web", production.registry.host, production.tiny.project);
    assert_eq!(reference, format!("{repository}@{digest}"));

    // What runs is what was pushed, in every container of that image and in no other.
    let at_service = running(&production);
    for (container, image) in &at_service {
        assert_eq!(*image == reference, container != "nginx", "{container} runs {image}");
    }
    assert_eq!(production.skopeo(&[], &reference)["Digest"], digest);
    assert_eq!(release["deployed"]["description"], "revision shop:42");
    assert_eq!(production.ecs.revision(), "shop:42");

    // Once-task, then the one switch.
    assert_eq!(production.changes(), ["RegisterTaskDefinition", "RunTask", "UpdateService"]);
    let task = &production.ecs.requests("RunTask")[0];
    assert!(task["taskDefinition"].as_str().unwrap().ends_with("shop:42"), "{task}");
    let overridden = &task["overrides"]["containerOverrides"][0];
    assert_eq!(*overridden, json!({"name": "web", "command": ["sh", "-c", "echo migrated"]}));

    // The secret is in its layer and nowhere else.
    let canary = production.canary.as_str();
    let seam = production.layers(&reference).last().unwrap().clone();
    assert_eq!(production.blobs_with(canary), [seam]);
    assert!(ended.stderr.contains("TRACE"), "the trace was on");
    let encoded = BASE64_STANDARD.encode(format!("AWS:{}", password()));
    for hidden in [canary, &password(), &encoded, "a-simulated-secret-key"] {
        for said in [&ended.stdout, &ended.stderr] {
            let line = said.lines().find(|line| line.contains(hidden));
            assert_eq!(line, None, "{hidden}");
        }
    }
    let asked =
        production.ecs.world().requests.iter().map(|(_, input)| input.to_string()).collect::<String>();
    assert!(!asked.contains(canary), "ECS was told");
    let config = production.skopeo(&["--config"], &reference).to_string();
    assert!(!config.contains(canary), "{config}");

    // The repository that was made for it.
    production.wait(async {
        let ecr = aws_sdk_ecr::Client::new(&production.moto.config().await);
        let answer = ecr.describe_repositories().send().await.unwrap();
        let [made] = answer.repositories() else { panic!("{answer:?}") };
        assert_eq!(made.repository_name(), Some(format!("{}-web", production.tiny.project).as_str()));
        assert_eq!(made.image_tag_mutability(), Some(&ImageTagMutability::Immutable));
        assert!(made.image_scanning_configuration().unwrap().scan_on_push());
        let policy = ecr.get_repository_policy().repository_name(made.repository_name().unwrap());
        let none = policy.send().await.unwrap_err().into_service_error();
        assert!(none.is_repository_policy_not_found_exception(), "{none:?}");
    });
}

#[test]
fn a_second_release_changes_nothing_and_a_new_secret_version_changes_one_layer() {
    let production = Production::with("once = []");
    let first = production.release();
    let (changes, blobs) = (production.changes(), production.registry.blobs().len());
    assert_eq!(changes, ["RegisterTaskDefinition", "UpdateService"]);

    let second = production.release();
    assert_eq!(reference(&second), reference(&first));
    assert_eq!(second["release"], first["release"]);
    assert_eq!((&second["images"][0]["uploaded"], &second["images"][0]["built"]), (&json!(0), &json!(false)));
    assert_eq!(production.changes(), changes, "ECS was left alone");
    assert_eq!(production.registry.blobs().len(), blobs, "the registry was left alone");

    production.put_secret("another-canary");
    let third = production.release();
    assert_eq!(third["images"][0]["built"], false);
    assert_ne!(third["release"], first["release"]);
    assert_ne!(third["images"][0]["secrets"], first["images"][0]["secrets"]);
    let (before, after) = (production.layers(&reference(&first)), production.layers(&reference(&third)));
    assert_eq!(after.len(), before.len());
    assert_eq!(after[..after.len() - 1], before[..before.len() - 1], "layers below the secret are the same");
    let seam = after.last().unwrap();
    assert_ne!(Some(seam), before.last());
    // The layer, the config, the manifest.
    assert_eq!(production.registry.blobs().len(), blobs + 3);
    assert!(third["images"][0]["uploaded"].as_u64().unwrap() < 4096, "{third}");
    assert_eq!(production.blobs_with("another-canary"), std::slice::from_ref(seam));
    assert_eq!(production.ecs.revision(), "shop:43");
    assert!(running(&production).contains(&("web".into(), reference(&third))));
}

use super::*;
use crate::digest::Digest;

fn described(text: &str) -> TaskDefinition {
    TaskDefinition::from_described(serde_json::from_str(text).unwrap()).unwrap()
}

fn every_field() -> TaskDefinition {
    described(include_str!("../../../fixtures/taskdef/every-field.json"))
}

fn shop() -> TaskDefinition {
    described(include_str!("../../../fixtures/taskdef/shop.json"))
}

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn pinned(repository: &str, content: &str) -> Reference {
    format!("{repository}@{}", Digest::of(content.as_bytes())).parse().unwrap()
}

fn images<const N: usize>(list: [(&str, Reference); N]) -> BTreeMap<String, Reference> {
    list.into_iter().map(|(name, reference)| (name.to_owned(), reference)).collect()
}

/// Whether `path` (`containerDefinitions[].image`, as in members.txt) leads somewhere.
fn reaches(value: &Value, path: &str) -> bool {
    match path.split_once('.').map_or((path, ""), |(first, rest)| (first, rest)) {
        ("", _) => true,
        (first, rest) => match (first.strip_suffix("[]"), value) {
            (Some(name), Value::Object(object)) => {
                let items = object.get(name).and_then(Value::as_array);
                items.is_some_and(|items| items.iter().any(|item| reaches(item, rest)))
            }
            (None, Value::Object(object)) => object.get(first).is_some_and(|inner| reaches(inner, rest)),
            _ => false,
        },
    }
}

#[test]
fn the_document_with_every_field_has_every_field() {
    let document = Value::Object(every_field().0);
    let members = include_str!("../../../fixtures/taskdef/members.txt");
    let paths = members.lines().filter(|line| !line.starts_with('#'));
    let missing: Vec<&str> = paths.filter(|path| !reaches(&document, path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_field_survives_but_the_nine_that_are_refused() {
    let before: Value =
        serde_json::from_str(include_str!("../../../fixtures/taskdef/every-field.json")).unwrap();
    let wanted = pinned(&format!("{ECR}/shop-web"), "new");
    let (next, changes) = every_field().with_images(&images([("web", wanted.clone())])).unwrap();
    assert_eq!(changes.len(), 1);

    let mut want = before["taskDefinition"].as_object().unwrap().clone();
    for field in [
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "deregisteredAt",
        "deleteRequestedAt",
        "registeredBy",
    ] {
        assert!(want.shift_remove(field).is_some(), "{field} is not in the document");
    }
    want["containerDefinitions"][0]["image"] = json!(wanted.to_string());
    want.insert("tags".into(), before["tags"].clone());
    assert_eq!(next.to_request(), want);
}

#[test]
fn fields_that_nobody_knows_yet_survive() {
    let mut answer: Value =
        serde_json::from_str(include_str!("../../../fixtures/taskdef/shop.json")).unwrap();
    answer["taskDefinition"]["quantumPlacement"] = json!({"entangled": [1, 2, null]});
    answer["taskDefinition"]["containerDefinitions"][0]["teleport"] = json!(1.5);
    let request = TaskDefinition::from_described(answer).unwrap().to_request();
    assert_eq!(request["quantumPlacement"], json!({"entangled": [1, 2, null]}));
    assert_eq!(request["containerDefinitions"][0]["teleport"], json!(1.5));
}

#[test]
fn containers_are_found_by_name_and_by_repository() {
    let web = pinned(&format!("{ECR}/shop-web"), "new");
    let (next, changes) = shop().with_images(&images([("web", web.clone())])).unwrap();
    let changed: Vec<&str> = changes.iter().map(|change| change.container.as_str()).collect();
    assert_eq!(changed, ["web", "worker", "beat"]);
    let now: Vec<&str> = next.containers().map(|container| container.image).collect();
    let nginx = shop().containers().nth(1).unwrap().image.to_owned();
    assert_eq!(now, [&web.to_string(), &nginx, &web.to_string(), &web.to_string()]);
}

#[test]
fn a_container_of_the_images_name_is_moved_to_another_repository() {
    let web = pinned("registry.example.com:5000/new/home", "new");
    let (_, changes) = shop().with_images(&images([("web", web.clone())])).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].to, web.to_string());
}

#[test]
fn a_port_in_the_host_is_no_tag_and_tags_are_left_out() {
    let mut document = shop();
    document.0["containerDefinitions"][0]["image"] = json!("registry.example.com:5000/shop/web");
    document.0["containerDefinitions"][2]["image"] = json!("registry.example.com:5000/shop/web:7");
    document.0["containerDefinitions"][3]["image"] = json!("registry.example.com/shop/web:7");
    let mut web = pinned("registry.example.com:5000/shop/web", "new");
    let bare = web.to_string();
    web.tag = Some("v8".parse().unwrap());
    let (_, changes) = document.with_images(&images([("image-of-web", web)])).unwrap();
    let changed: Vec<_> = changes.iter().map(|change| (change.container.as_str(), &*change.to)).collect();
    assert_eq!(changed, [("web", &*bare), ("worker", &*bare)]);
}

#[test]
fn nothing_changes_when_the_digests_are_the_same() {
    let mut document = shop();
    let digest = format!("sha256:{}", "a".repeat(64));
    for at in [2, 3] {
        document.0["containerDefinitions"][at]["image"] = json!(format!("{ECR}/shop-web:old@{digest}"));
    }
    let web: Reference = format!("{ECR}/shop-web@{digest}").parse().unwrap();
    let (next, changes) = document.with_images(&images([("web", web)])).unwrap();
    assert!(changes.is_empty());
    assert!(next == document);
}

#[test]
fn an_image_that_no_container_runs_is_refused_with_the_nearest_name() {
    let stray = pinned(&format!("{ECR}/shop-worker"), "new");
    let Err(error) = shop().with_images(&images([("workers", stray)])) else { panic!("was taken") };
    assert_eq!(error.kind(), crate::error::Kind::Refused);
    assert!(error.what().contains("\"workers\""), "{error}");
    let help = error.help_text().unwrap();
    assert!(help.contains("web, nginx, worker, beat"), "{help}");
    assert!(help.contains("did you mean \"worker\"?"), "{help}");
}

#[test]
fn two_images_of_one_repository_keep_to_their_names() {
    let web = pinned(&format!("{ECR}/shop-web"), "web");
    let worker = pinned(&format!("{ECR}/shop-web"), "worker");
    let both = [("web", web.clone()), ("worker", worker.clone())];
    let Err(error) = shop().with_images(&images(both)) else { panic!("beat could be either") };
    assert!(error.what().contains("\"beat\""), "{error}");

    let beat = pinned(&format!("{ECR}/shop-web"), "beat");
    let all = [("web", web.clone()), ("worker", worker.clone()), ("beat", beat.clone())];
    let (_, changes) = shop().with_images(&images(all)).unwrap();
    let to: Vec<&str> = changes.iter().map(|change| change.to.as_str()).collect();
    assert_eq!(to, [web.to_string(), worker.to_string(), beat.to_string()]);
}

#[test]
fn an_image_without_a_digest_is_refused() {
    let tagged: Reference = format!("{ECR}/shop-web:latest").parse().unwrap();
    assert!(shop().with_images(&images([("web", tagged)])).is_err());
}

#[test]
fn reserved_tags_and_empty_tag_lists_are_left_out() {
    let mut answer: Value =
        serde_json::from_str(include_str!("../../../fixtures/taskdef/shop.json")).unwrap();
    let reserved = json!({"key": "AWS:cloudformation:stack-name", "value": "shop"});
    answer["tags"] = json!([reserved, {"key": "team", "value": "shop"}]);
    let tagged = TaskDefinition::from_described(answer.clone()).unwrap().to_request();
    assert_eq!(tagged["tags"], json!([{"key": "team", "value": "shop"}]));
    answer["tags"] = json!([reserved]);
    let untagged = TaskDefinition::from_described(answer).unwrap().to_request();
    assert!(untagged.get("tags").is_none());
}

#[test]
fn log_groups_are_read_from_awslogs_only() {
    let logs = shop().aws_logs("web").unwrap();
    assert_eq!(logs.group, "/ecs/shop");
    assert_eq!(logs.stream_prefix.as_deref(), Some("shop"));
    assert_eq!(every_field().aws_logs("statsd"), None);
}

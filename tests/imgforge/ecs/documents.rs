//! The same calls against moto, which was written by others after AWS's service model: shapes, names and errors.

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::region::Region;
use imgforge::deploy::Deployer;
use imgforge::deploy::ecs::EcsDeployer;
use imgforge::deploy::ecs::api::{Client, ECS};
use imgforge::progress::Reporter;
use serde_json::{Map, Value, json};

use super::{config, new_web, ready};
use crate::support::moto::Moto;

fn account(moto: &Moto) -> (SdkConfig, Client) {
    let credentials = Credentials::new("AKIDMOTO", "any", None, None, "test");
    let sdk = SdkConfig::builder()
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(&moto.url)
        .build();
    let client = Client::new(ECS, &sdk, None, reqwest::Client::new(), config().pace.retry).unwrap();
    (sdk, client)
}

/// Cluster `shop` with service `web`, at revision 1 of the task definition with every field.
async fn service_with_every_field(client: &Client) -> Map<String, Value> {
    let document: Value =
        serde_json::from_str(include_str!("../../../fixtures/taskdef/every-field.json")).unwrap();
    let mut request = document["taskDefinition"].as_object().unwrap().clone();
    for made_by_ecs in ["taskDefinitionArn", "revision", "status", "registeredAt", "registeredBy"] {
        request.shift_remove(made_by_ecs);
    }
    for made_by_ecs in ["requiresAttributes", "compatibilities", "deregisteredAt", "deleteRequestedAt"] {
        request.shift_remove(made_by_ecs);
    }
    request.insert("tags".into(), document["tags"].clone());
    client.call("CreateCluster", &json!({"clusterName": "shop"})).await.unwrap();
    client.call("RegisterTaskDefinition", &Value::Object(request.clone())).await.unwrap();
    let service =
        json!({"cluster": "shop", "serviceName": "web", "taskDefinition": "shop-web:1", "desiredCount": 0});
    client.call("CreateService", &service).await.unwrap();
    request
}

#[tokio::test]
async fn moto_takes_the_document_and_gives_it_back() {
    let moto = Moto::start();
    let (sdk, client) = account(&moto);
    service_with_every_field(&client).await;
    let input = json!({"taskDefinition": "shop-web:1", "include": ["TAGS"]});
    let before = client.call("DescribeTaskDefinition", &input).await.unwrap();

    let deployer = EcsDeployer::new(&sdk, config()).unwrap();
    let silent = Reporter::silent();
    // With no tasks wanted, moto calls the deployment complete. It never begins another one: no `apply` here.
    let (running, prepared) = ready(&deployer, &silent).await;
    assert_eq!(running.description, "revision shop-web:1");
    assert_eq!(prepared.description, "revision shop-web:2");

    let input = json!({"taskDefinition": "shop-web:2", "include": ["TAGS"]});
    let mut after = client.call("DescribeTaskDefinition", &input).await.unwrap();
    let image = after["taskDefinition"]["containerDefinitions"][0]["image"].take();
    assert_eq!(image, new_web().to_string());
    // All that moto keeps is as it was, but for the image and what each revision has of its own.
    after["taskDefinition"]["containerDefinitions"][0]["image"] =
        before["taskDefinition"]["containerDefinitions"][0]["image"].clone();
    for own in ["taskDefinitionArn", "revision"] {
        after["taskDefinition"][own] = before["taskDefinition"][own].clone();
    }
    assert_eq!(after, before);
    assert_eq!(
        after["tags"],
        json!([{"key": "team", "value": "shop"}, {"key": "cost-centre", "value": "4711"}])
    );

    deployer.discard(&prepared).await.unwrap();
    let discarded = client.call("DescribeTaskDefinition", &input).await.unwrap();
    assert_eq!(discarded["taskDefinition"]["status"], "INACTIVE");
}

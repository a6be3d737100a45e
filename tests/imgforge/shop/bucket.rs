//! Static files and uploads in a bucket, as on AWS: an S3 server beside the site.

use crate::support::shop::{Built, Shop};

/// The S3 server as one more image, and the bucket as one more once-task, before all others.
const IMAGE: &str = r#"
[env.local.images.s3]
base   = "python"
engine = "direct"
[env.local.images.s3.python]
packages = ["moto[s3,server]==5.2.5"]
[env.local.images.s3.config]
cmd = ["moto_server", "--host", "0.0.0.0", "--port", "5000"]
"#;

const ONCE: &str = r#"[[deploy.once]]
name      = "bucket"
container = "web"
command   = ["python3", "bucket.py"]
"#;

/// What the stack does on AWS, where only the site's own network may read: two folders, and nothing else.
const BUCKET: &str = r#"
import boto3, json

s3 = boto3.client("s3")
s3.create_bucket(Bucket="shop-media")
read = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "s3:GetObject",
    "Resource": [f"arn:aws:s3:::shop-media/{folder}/*" for folder in ("static", "media")],
}
s3.put_bucket_policy(Bucket="shop-media", Policy=json.dumps({"Version": "2012-10-17", "Statement": [read]}))
"#;

/// Beside docker-compose.yml, which stays as it is.
const OVERRIDE: &str = r#"
version: "3.8"
x-s3: &s3
  environment: &environment
    AWS_ENDPOINT_URL: http://s3:5000
    AWS_ACCESS_KEY_ID: test
    AWS_SECRET_ACCESS_KEY: test
    AWS_DEFAULT_REGION: us-east-1
services:
  web:
    <<: *s3
    depends_on:
      s3:
        condition: service_started
  worker:
    <<: *s3
  beat:
    <<: *s3
  nginx:
    environment:
      FILES: http://s3:5000/shop-media
  s3:
    image: ${IMGFORGE_S3}
"#;

const SETTINGS: &str = r#"
AWS_STORAGE_BUCKET_NAME = "shop-media"
AWS_S3_REGION_NAME = "us-east-1"
STORAGES = {
    "default": {"BACKEND": "custom_storages.MediaStorage"},
    "staticfiles": {"BACKEND": "custom_storages.StaticStorage"},
}
"#;

#[tokio::test]
async fn collectstatic_fills_the_bucket_and_uploads_go_there_too() {
    let shop = Shop::new(Built { server: "gunicorn", engine: "direct" }).await;
    let config = shop.read("imgforge.toml");
    let config = config.replacen("[[deploy.once]]\n", &format!("{ONCE}[[deploy.once]]\n"), 1);
    shop.write("imgforge.toml", &format!("{config}{IMAGE}"));
    shop.write("docker-compose.override.yml", OVERRIDE);
    shop.write("bucket.py", BUCKET);
    shop.add("secrets/server_settings.py", SETTINGS);
    shop.program().run(&["release"]).ok();
    shop.visit("check.py", &["--bucket", "--motto", &shop.motto]);

    // Two folders of one bucket, and nothing on the disks of containers.
    let keys = "import boto3; s3 = boto3.client('s3'); pages = s3.get_paginator('list_objects_v2').paginate(Bucket='shop-media'); \
         print(sorted({entry['Key'].split('/')[0] + '/' + entry['Key'].split('/')[1] for page in pages for entry in page['Contents']}))";
    let keys = shop.exec("web", &format!("python3 -c \"{keys}\""));
    for folder in ["media/orders", "static/admin", "static/shop", "static/staticfiles.json"] {
        assert!(keys.contains(folder), "{keys}");
    }
    assert!(!keys.contains("media/uploads"), "what was on its way is gone: {keys}");
    assert_eq!(shop.exec("web", "ls -A /home/docker/files"), "");

    // Collected again, what did not change is not sent again, and the page is the same.
    shop.program().run(&["release"]).ok();
    shop.visit("check.py", &["--bucket"]);
}

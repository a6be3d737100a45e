//! Task definitions as documents: from what DescribeTaskDefinition answers to what RegisterTaskDefinition takes.
//!
//! Pure. A document stays the JSON that the API gave, so that a field which imgforge has never heard of survives.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::config::nearest;
use crate::error::{Error, Result};
use crate::image::reference::{Reference, Repository};

/// What Describe returns and Register refuses (the members of the API's `TaskDefinition` that
/// `RegisterTaskDefinitionRequest` does not have).
const REFUSED: [&str; 9] = [
    "compatibilities",
    "deleteRequestedAt",
    "deregisteredAt",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "taskDefinitionArn",
];

/// A task definition with all its fields; its tags among them, as Register wants them.
///
/// No `Debug`: people do put secrets into `environment`.
#[derive(Clone, PartialEq)]
pub struct TaskDefinition(Map<String, Value>);

/// A container and the image it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container<'a> {
    /// The container's name.
    pub name: &'a str,
    /// Its image as written.
    pub image: &'a str,
}

/// A container that gets another image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The container's name.
    pub container: String,
    /// The image before, as written.
    pub from: String,
    /// The image after, by digest.
    pub to: String,
}

/// Where a container's log lines go, when that is CloudWatch Logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsLogs {
    /// `awslogs-group`
    pub group: String,
    /// `awslogs-region`, when it is written.
    pub region: Option<String>,
    /// `awslogs-stream-prefix`, when it is written.
    pub stream_prefix: Option<String>,
}

impl TaskDefinition {
    /// Takes the whole answer to a DescribeTaskDefinition with `include=TAGS`: `{taskDefinition, tags}`.
    ///
    /// Tags whose key or value begins with `aws:` are AWS's own (a CloudFormation stack's name, say); Register refuses them,
    /// whatever their case (Amazon ECS developer guide, "Tag restrictions"). No tags must be no `tags` at all: an empty
    /// list is refused.
    ///
    /// # Errors
    /// The answer holds no task definition.
    pub fn from_described(mut answer: Value) -> Result<Self> {
        let Some(Value::Object(mut document)) = answer.get_mut("taskDefinition").map(Value::take) else {
            return Err(Error::failed("DescribeTaskDefinition answered without a task definition"));
        };
        let tags = match answer.get_mut("tags").map(Value::take) {
            Some(Value::Array(tags)) => tags,
            _ => Vec::new(),
        };
        let own: Vec<Value> = tags.into_iter().filter(|tag| !is_reserved(tag)).collect();
        if !own.is_empty() {
            document.insert("tags".into(), Value::Array(own));
        }
        Ok(TaskDefinition(document))
    }

    /// The document that RegisterTaskDefinition takes.
    pub fn to_request(&self) -> Map<String, Value> {
        let mut request = self.0.clone();
        for field in REFUSED {
            request.shift_remove(field);
        }
        request
    }

    /// The revision's ARN; empty in a document that was not described.
    pub fn arn(&self) -> &str {
        text(&self.0, "taskDefinitionArn")
    }

    /// The family.
    pub fn family(&self) -> &str {
        text(&self.0, "family")
    }

    /// The containers, in order.
    pub fn containers(&self) -> impl Iterator<Item = Container<'_>> {
        self.definitions()
            .map(|definition| Container { name: text(definition, "name"), image: text(definition, "image") })
    }

    /// Whether it has a container of this name.
    ///
    /// # Errors
    /// Refused, with the containers there are and the nearest name.
    pub fn require_container(&self, name: &str, wanted_by: &str) -> Result<()> {
        if self.containers().any(|container| container.name == name) {
            return Ok(());
        }
        Err(self.no_container(format!("{wanted_by} names container {name:?}"), name))
    }

    /// Whether the image called `name` is that of some container: of the one of this name, or of any whose image comes
    /// from `repository` now.
    ///
    /// # Errors
    /// Refused, with the containers there are and the nearest name.
    pub fn require_image(&self, name: &str, repository: Option<&Repository>) -> Result<()> {
        if self.containers().any(|container| runs(container, name, repository)) {
            return Ok(());
        }
        let from = match repository {
            Some(repository) => format!(" or runs an image from {repository}"),
            None => String::new(),
        };
        Err(self.no_container(format!("image {name:?}: no container has its name{from}"), name))
    }

    /// The image called `name`, from `repository`, as its containers name it now. `None` when no container runs it from
    /// there, or they do not agree.
    pub fn reference_of(&self, name: &str, repository: &Repository) -> Option<Reference> {
        let mut references = self
            .containers()
            .filter(|container| runs(*container, name, Some(repository)))
            .filter_map(|container| container.image.parse::<Reference>().ok())
            .filter(|reference| reference.repository == *repository);
        let first = references.next()?;
        references.all(|other| other == first).then_some(first)
    }

    fn no_container(&self, what: String, name: &str) -> Error {
        let names: Vec<&str> = self.containers().map(|container| container.name).collect();
        let nearest = match nearest(name, names.iter().copied()) {
            Some(near) => format!("; did you mean {near:?}?"),
            None => String::new(),
        };
        let revision = match self.arn() {
            "" => self.family(),
            arn => short_name(arn),
        };
        Error::refused(format!("{what}, which task definition {revision} does not have"))
            .help(format!("its containers are {}{nearest}", names.join(", ")))
    }

    /// The same task definition with the released images, by digest, in their containers: nothing else is changed.
    /// No changes means that it runs them already.
    ///
    /// # Errors
    /// Refused: an image without a digest, an image that no container runs, two images for one container.
    pub fn with_images(&self, images: &BTreeMap<String, Reference>) -> Result<(Self, Vec<Change>)> {
        for (name, reference) in images {
            if reference.digest.is_none() {
                return Err(Error::refused(format!("image {name:?} has no digest: {reference}"))
                    .help("push it first; a tag can move under a running service"));
            }
            self.require_image(name, Some(&reference.repository))?;
        }
        let mut wanted: BTreeMap<&str, &Reference> = BTreeMap::new();
        for container in self.containers() {
            if let Some(reference) = image_for(container, images)? {
                wanted.insert(container.name, reference);
            }
        }
        let mut changes = Vec::new();
        let mut next = self.clone();
        let definitions = next.0.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        for definition in definitions.into_iter().flatten().filter_map(Value::as_object_mut) {
            let Some(reference) = wanted.get(text(definition, "name")) else { continue };
            let from = text(definition, "image").to_owned();
            if same_image(&from, reference) {
                continue;
            }
            let to = Reference { tag: None, ..Reference::clone(reference) }.to_string();
            definition.insert("image".into(), json!(to));
            changes.push(Change { container: text(definition, "name").to_owned(), from, to });
        }
        Ok((next, changes))
    }

    /// Whether the task ends with this container.
    pub fn is_essential(&self, container: &str) -> bool {
        let definition = self.definitions().find(|definition| text(definition, "name") == container);
        definition.and_then(|definition| definition.get("essential")?.as_bool()).unwrap_or(true)
    }

    /// Where the container's log lines go; `None` when it does not log to CloudWatch Logs.
    pub fn aws_logs(&self, container: &str) -> Option<AwsLogs> {
        let definition = self.definitions().find(|definition| text(definition, "name") == container)?;
        let logs = definition.get("logConfiguration")?.as_object()?;
        let options = logs.get("options")?.as_object()?;
        let option = |name: &str| options.get(name)?.as_str().map(str::to_owned);
        match text(logs, "logDriver") {
            "awslogs" => Some(AwsLogs {
                group: option("awslogs-group")?,
                region: option("awslogs-region"),
                stream_prefix: option("awslogs-stream-prefix"),
            }),
            _ => None,
        }
    }

    fn definitions(&self) -> impl Iterator<Item = &Map<String, Value>> {
        let definitions = self.0.get("containerDefinitions").and_then(Value::as_array);
        definitions.into_iter().flatten().filter_map(Value::as_object)
    }
}

/// Whether the container runs the image `name`, which is in `repository`: it has its name, or an image from there.
pub fn runs(container: Container<'_>, name: &str, repository: Option<&Repository>) -> bool {
    if container.name == name {
        return true;
    }
    match (container.image.parse::<Reference>(), repository) {
        (Ok(reference), Some(repository)) => reference.repository == *repository,
        _ => false,
    }
}

/// The released image that the container is to run: the one of its own name, else the one from its repository.
fn image_for<'a>(
    container: Container<'_>,
    images: &'a BTreeMap<String, Reference>,
) -> Result<Option<&'a Reference>> {
    if let Some(own) = images.get(container.name) {
        return Ok(Some(own));
    }
    let mut shared =
        images.iter().filter(|(name, reference)| runs(container, name, Some(&reference.repository)));
    let Some((first, reference)) = shared.next() else { return Ok(None) };
    match shared.find(|(_, other)| other.digest != reference.digest) {
        None => Ok(Some(reference)),
        Some((second, _)) => Err(Error::refused(format!(
            "container {:?} could run image {first:?} or image {second:?}: both are in {}",
            container.name, reference.repository
        ))
        .help("give each image a repository of its own, or call one as the container is called")),
    }
}

/// By repository and digest: a tag written beside the digest does not count.
fn same_image(written: &str, wanted: &Reference) -> bool {
    let is_wanted = |now: Reference| now.repository == wanted.repository && now.digest == wanted.digest;
    written.parse::<Reference>().is_ok_and(is_wanted)
}

fn is_reserved(tag: &Value) -> bool {
    let begins = |field: &str| {
        let text = tag.get(field).and_then(Value::as_str).unwrap_or_default();
        text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
    };
    begins("key") || begins("value")
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What people call the thing an ARN names: all after its last slash (`shop-web:42`, a service's or task's id).
pub fn short_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
#[path = "taskdef/tests.rs"]
mod tests;

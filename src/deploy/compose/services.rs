//! What the compose file says, as compose itself prints it (`compose config`).
//!
//! That output is canonical: both generations of compose write block style with two spaces a level, so that the three
//! things wanted here can be read by line, with no YAML reader in the program. Everything else in it, environment
//! variables among it, is left alone.

use std::collections::BTreeMap;

use super::images::placeholder;
use crate::config::{OnceConfig, nearest};
use crate::error::{Error, Result};

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its image as written.
    pub image: Option<String>,
    /// Whether it runs only when asked for (`profiles:`).
    pub on_demand: bool,
}

/// The services of a compose file, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services(pub BTreeMap<String, Service>);

impl Services {
    /// Reads the output of `compose config`.
    pub fn parse(config: &str) -> Self {
        let mut services = BTreeMap::<String, Service>::new();
        let mut inside = false;
        let mut current = None;
        for line in config.lines() {
            let text = line.trim_start_matches(' ');
            let depth = line.len() - text.len();
            match depth {
                _ if text.is_empty() || text.starts_with('#') => {}
                0 => inside = text == "services:",
                2 if inside && !text.starts_with('-') => {
                    let name = text.trim_end_matches(" {}").trim_end_matches(':');
                    let name = unquoted(name).to_owned();
                    services.entry(name.clone()).or_default();
                    current = Some(name);
                }
                4 if inside => {
                    let Some(service) = current.as_ref().and_then(|name| services.get_mut(name)) else {
                        continue;
                    };
                    if let Some(image) = text.strip_prefix("image:") {
                        service.image = Some(unquoted(image.trim()).to_owned());
                    } else if text.starts_with("profiles:") {
                        service.on_demand = true;
                    }
                }
                _ => {}
            }
        }
        Services(services)
    }

    /// The services that run an image of imgforge.toml, when this was read with placeholders.
    pub fn running<'s>(&'s self, image: &str) -> impl Iterator<Item = &'s str> {
        let placeholder = placeholder(image);
        self.0
            .iter()
            .filter(move |(_, service)| service.image.as_deref() == Some(placeholder.as_str()))
            .map(|(name, _)| name.as_str())
    }

    /// Checks that each image is used, and that each once-task has a service.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`]
    pub fn check(&self, images: &[String], once: &[OnceConfig]) -> Result<()> {
        for image in images {
            if self.running(image).next().is_none() {
                let variable = super::images::variable(image);
                return Err(Error::refused(format!(
                    "no service of the compose file runs the image {image:?}"
                ))
                .help(format!("give a service \"image: ${{{variable}}}\"")));
            }
        }
        for task in once {
            if !self.0.contains_key(&task.container) {
                let known = || self.0.keys().map(String::as_str);
                let error = Error::refused(format!(
                    "the once-task {:?} names the service {:?}, which the compose file does not have",
                    task.name, task.container
                ));
                return Err(match nearest(&task.container, known()) {
                    Some(near) => error.help(format!("did you mean {near:?}?")),
                    None => error.help(format!("known: {}", known().collect::<Vec<_>>().join(", "))),
                });
            }
        }
        Ok(())
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix(['"', '\'']).and_then(|text| text.strip_suffix(['"', '\''])).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// As docker-compose 1.29 prints.
    const FIRST: &str = "\
networks:
  default:
    image: not-a-service
services:
  nginx:
    depends_on:
      web:
        condition: service_healthy
    image: sha256:12
    ports:
    - 127.0.0.1:8080:8080/tcp
  shell:
    image: sha256:34
    profiles:
    - tools
  'on':
    environment:
      image: wrong
    image: 127.0.0.1:5000/web@sha256:34
version: '3.9'
volumes:
  data: {}
";

    /// As docker compose 2 prints.
    const SECOND: &str = "\
name: shop
services:
  web:
    command:
      - image:wrong
    image: \"sha256:34\"
    networks:
      default: null
networks:
  default:
    name: shop_default
";

    #[test]
    fn reads_both_generations() {
        let services = Services::parse(FIRST);
        let names: Vec<_> = services.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["nginx", "on", "shell"]);
        assert_eq!(services.0["nginx"].image.as_deref(), Some("sha256:12"));
        assert_eq!(services.0["on"].image.as_deref(), Some("127.0.0.1:5000/web@sha256:34"));
        assert!(services.0["shell"].on_demand && !services.0["nginx"].on_demand);

        let services = Services::parse(SECOND);
        assert_eq!(services.0.len(), 1);
        assert_eq!(services.0["web"].image.as_deref(), Some("sha256:34"));
    }

    #[test]
    fn an_image_that_nobody_runs_is_refused() {
        let text = format!("services:\n  app:\n    image: {}\n", placeholder("web"));
        let services = Services::parse(&text);
        assert_eq!(services.running("web").collect::<Vec<_>>(), ["app"]);
        assert!(services.check(&["web".into()], &[]).is_ok());
        let error = services.check(&["nginx".into()], &[]).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert_eq!(error.help_text(), Some("give a service \"image: ${IMGFORGE_NGINX}\""));
    }

    #[test]
    fn a_once_task_of_an_unknown_service_is_refused_with_the_nearest() {
        let services = Services::parse("services:\n  web:\n    image: a\n");
        let task = OnceConfig { name: "migrate".into(), container: "wbe".into(), command: Vec::new() };
        let error = services.check(&[], &[task]).unwrap_err();
        assert_eq!((error.kind(), error.help_text()), (Kind::Refused, Some("did you mean \"web\"?")));
    }
}

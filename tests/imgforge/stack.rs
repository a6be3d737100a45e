//! The CloudFormation template: what it makes, how an update leaves a release alone, and that its policy is exact.

mod account;
mod boot;
mod exact;
mod made;
mod update;

/// Parameters of a stack that is enough for tests. The passwords are no secrets.
const PARAMETERS: [(&str, &str); 4] = [
    ("Project", "shop"),
    ("SecretsBucket", crate::support::production::BUCKET),
    ("DatabasePassword", "a-database-password"),
    ("BrokerPassword", "a-broker-password"),
];

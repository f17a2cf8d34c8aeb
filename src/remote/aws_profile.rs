//! Credentials and the region of a profile in the files of Amazon's own tools.
//!
//! # Invariants
//! - What is in the environment goes before what is in these files.

use std::path::{Path, PathBuf};

/// What a profile says; nothing of it is ever shown.
#[derive(Default, PartialEq, Eq)]
pub(super) struct AwsProfile {
    pub(super) access_key_id: Option<String>,
    pub(super) secret_access_key: Option<String>,
    pub(super) session_token: Option<String>,
    pub(super) region: Option<String>,
}

impl AwsProfile {
    /// The user's profile: that of `AWS_PROFILE`, or `default`.
    pub(super) fn of_user() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = variable("HOME").map(PathBuf::from);
        let file = |name, default: &str| {
            let given = variable(name).map(PathBuf::from);
            given.or_else(|| Some(home.as_ref()?.join(".aws").join(default)))
        };
        let read = |file: Option<PathBuf>| {
            file.and_then(|file| std::fs::read_to_string(Path::new(&file)).ok()).unwrap_or_default()
        };
        let name = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
        let config = read(file("AWS_CONFIG_FILE", "config"));
        Self::parse(&name, &credentials, &config)
    }

    fn parse(name: &str, credentials: &str, config: &str) -> Self {
        let section = format!("profile {name}");
        let find = |key| {
            value(credentials, name, key)
                .or_else(|| value(config, &section, key))
                .or_else(|| value(config, name, key))
        };
        Self {
            access_key_id: find("aws_access_key_id"),
            secret_access_key: find("aws_secret_access_key"),
            session_token: find("aws_session_token"),
            region: find("region"),
        }
    }
}

/// The value of `key` in a section of an INI file.
fn value(text: &str, section: &str, key: &str) -> Option<String> {
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            is_inside = name.split_whitespace().eq(section.split_whitespace());
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_inside)
            && name.trim() == key
            && !value.trim().is_empty()
        {
            return Some(value.trim().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_from_both_files() {
        let credentials = "[default]\naws_access_key_id = a\naws_secret_access_key=b\n\n\
                           [lab]\n# key = x\naws_access_key_id=c\naws_secret_access_key = d=e\n";
        let config = "[default]\nregion = eu-west-1\n[profile  lab]\nregion=us-west-2\n\
                      aws_session_token = t\n";
        let lab = AwsProfile::parse("lab", credentials, config);
        assert_eq!(lab.access_key_id.as_deref(), Some("c"));
        assert_eq!(lab.secret_access_key.as_deref(), Some("d=e"));
        assert_eq!(lab.session_token.as_deref(), Some("t"));
        assert_eq!(lab.region.as_deref(), Some("us-west-2"));
        let default = AwsProfile::parse("default", credentials, config);
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        assert!(default.session_token.is_none());
        assert!(AwsProfile::parse("none", credentials, config) == AwsProfile::default());
    }
}

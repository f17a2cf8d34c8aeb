//! What went wrong between this machine and a server, in words that hold no secret.
//!
//! # Invariants
//! - The text of a client's error is searched and never shown: it may hold a signed URL or a key.

use std::error::Error as _;
use std::io;
use std::path::Path;

use super::address::Server;
use crate::Error;

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: io::ErrorKind,
    pub(super) message: String,
    /// Whether another attempt may succeed.
    pub(super) is_transient: bool,
}

impl Failure {
    pub(super) fn new(kind: io::ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), is_transient: false }
    }

    /// An answer that is not what was asked for, which another attempt may bring.
    pub(super) fn odd(message: impl Into<String>) -> Self {
        Self { is_transient: true, ..Self::new(io::ErrorKind::InvalidData, message) }
    }

    /// A failure that `error` of the client reports.
    pub(super) fn of(server: Server, error: &object_store::Error) -> Self {
        let text = error.to_string();
        let code = between(&text, "<Code>", "</Code>").filter(|code| is_word(code));
        let region = between(&text, "<Region>", "</Region>").filter(|region| is_word(region));
        let status = between(&text, "status code: ", " ").and_then(|s| s.parse::<u16>().ok());
        let named = |status: &str| match &code {
            Some(code) => format!("{status}, {code}"),
            None => status.to_owned(),
        };
        let is_of = |codes: &[&str]| code.as_deref().is_some_and(|code| codes.contains(&code));
        if is_of(&["ExpiredToken", "ExpiredTokenException", "RequestTimeTooSkewed"]) {
            let answer = code.unwrap_or_default();
            let message = format!(
                "the credentials have expired, or this machine's clock is wrong ({answer}): renew \
                 them, and open the store again"
            );
            return Self::new(io::ErrorKind::PermissionDenied, message);
        }
        let elsewhere = ["PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect"];
        if text.contains("incorrectly configured region") || is_of(&elsewhere) {
            let name = region.unwrap_or_else(|| "NAME".to_owned());
            let message = format!(
                "the bucket lies in another region: set AWS_REGION={name}, and open the store again"
            );
            return Self::new(io::ErrorKind::Other, message);
        }
        match error {
            object_store::Error::NotFound { .. } => {
                let found = if is_of(&["NoSuchBucket"]) { "bucket" } else { "file" };
                Self::new(io::ErrorKind::NotFound, format!("the server has no such {found}"))
            }
            object_store::Error::PermissionDenied { .. } => {
                let message = format!(
                    "the server refuses access ({}): {}",
                    named("403"),
                    credentials(server)
                );
                Self::new(io::ErrorKind::PermissionDenied, message)
            }
            object_store::Error::Unauthenticated { .. } => {
                let message = format!(
                    "the server asks for other credentials ({}), these may have expired: {}",
                    named("401"),
                    credentials(server)
                );
                Self::new(io::ErrorKind::PermissionDenied, message)
            }
            object_store::Error::NotSupported { .. } => Self::no_ranges(),
            _ if text.contains("non-partial") || text.contains("Range request not") => {
                Self::no_ranges()
            }
            _ if text.contains("169.254.") || text.contains("metadata.google") => {
                let message = format!("no credentials were found: {}", credentials(server));
                Self::new(io::ErrorKind::PermissionDenied, message)
            }
            _ => Self::of_server(status, &named, &text, &deepest(error)),
        }
    }

    fn of_server(
        status: Option<u16>,
        named: &dyn Fn(&str) -> String,
        text: &str,
        deepest: &str,
    ) -> Self {
        match status {
            Some(status @ (429 | 500..)) => {
                let answer = named(&status.to_string());
                let message = format!("the server still answers {answer}: try again later");
                Self::new(io::ErrorKind::ResourceBusy, message)
            }
            Some(status) => {
                let message = format!("the server answers {}", named(&status.to_string()));
                Self::new(io::ErrorKind::Other, message)
            }
            None => {
                // The client has tried a request again that did not come through; an answer that
                // broke off, it has not.
                let is_transient = !text.contains("max_retries");
                let message = format!("the connection failed: {deepest}");
                Self { is_transient, ..Self::new(io::ErrorKind::ConnectionAborted, message) }
            }
        }
    }

    fn no_ranges() -> Self {
        let message = "the server ignores Range requests, so it would send whole shards: serve the \
                       store from one that honours them (nginx, Caddy, a bucket), or copy it to a \
                       disk";
        Self::new(io::ErrorKind::Unsupported, message)
    }

    /// The system's form of the failure.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::new(self.kind, self.message)
    }

    /// The failure as an error about the file `path`.
    pub(super) fn at(self, path: &Path) -> Error {
        Error::io(path, "cannot fetch")(self.into_io())
    }
}

/// How a server's credentials are given.
fn credentials(server: Server) -> &'static str {
    match server {
        Server::Http => "check the address and its token, which may have expired",
        Server::S3 => {
            "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or AWS_PROFILE; \
             for a public bucket set AWS_SKIP_SIGNATURE=true"
        }
        Server::Google => {
            "check GOOGLE_APPLICATION_CREDENTIALS, or log in with `gcloud auth application-default \
             login`; for a public bucket set GOOGLE_SKIP_SIGNATURE=true"
        }
        Server::Azure => {
            "check AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or \
             AZURE_STORAGE_SAS_KEY; for a public container set AZURE_SKIP_SIGNATURE=true"
        }
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split(after).next().unwrap_or_default().to_owned())
}

/// The innermost cause, which is the system's or the TLS library's and names no URL.
fn deepest(error: &object_store::Error) -> String {
    let mut cause = error.source();
    let mut depth = 0;
    let mut text = None;
    while let Some(inner) = cause {
        (text, cause, depth) = (Some(inner.to_string()), inner.source(), depth + 1);
    }
    // The outermost causes are the client's own.
    text.filter(|text| depth > 1 && !text.contains("://") && !text.contains('<'))
        .unwrap_or_else(|| "the server's answer cannot be used".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn failures_name_the_remedy_and_no_secret() {
        let url = "Error performing GET https://host/x?sig=SECRET in 1s, after 6 retries, \
                   max_retries: 6 - ";
        let cases = [
            (
                "status code: 400 Bad Request: <Code>ExpiredToken</Code><Token>SECRET</Token>",
                "renew",
            ),
            (
                "status code: 400 Bad Request: <Code>AuthorizationHeaderMalformed</Code><Region>\
              eu-west-1</Region>",
                "AWS_REGION=eu-west-1",
            ),
            (
                "Received redirect without LOCATION, this normally indicates an incorrectly \
              configured region",
                "AWS_REGION",
            ),
            ("status code: 503 Slow Down: <Code>SlowDown</Code>", "503, SlowDown"),
            ("HTTP error: SECRET", "connection"),
            ("Received non-partial response when range requested", "Range"),
        ];
        for (text, expected) in cases {
            let failure = Failure::of(Server::S3, &generic(&format!("{url}{text}")));
            assert!(failure.message.contains(expected), "{}", failure.message);
            assert!(!failure.message.contains("SECRET"), "{}", failure.message);
            assert!(!failure.is_transient, "{}", failure.message);
        }
        let broken = Failure::of(Server::Http, &generic("error reading a body"));
        assert!(broken.is_transient);
        let denied = object_store::Error::PermissionDenied {
            path: "x".to_owned(),
            source: "<Code>AccessDenied</Code>".into(),
        };
        let failure = Failure::of(Server::S3, &denied);
        assert!(failure.message.contains("403, AccessDenied") && failure.message.contains("AWS_"));
    }
}

//! The address of a store: which kind of server, which bucket, and what of it may be shown.
//!
//! # Invariants
//! - What follows `?` may be a token: it is sent, and never shown or written to a disk.

use crate::{Error, Result};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Http,
    S3,
    Google,
    Azure,
}

/// A parsed URL.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) server: Server,
    /// As the user gave it.
    url: String,
    /// Without what may be secret.
    shown: String,
    /// The bucket or container; the host of an HTTP server.
    pub(super) bucket: String,
    /// The store's path in the bucket, without slashes around it; empty for an HTTP server.
    pub(super) prefix: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Address {
    /// Parses a URL, as `sys::remote::url_of` gives it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another scheme, or without a host or bucket;
    /// [`Error::Unsupported`] for a name and a password in it.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let server = match scheme {
            "http" | "https" => Server::Http,
            "s3" | "s3a" => Server::S3,
            "gs" => Server::Google,
            "az" | "azure" => Server::Azure,
            _ => {
                let expected =
                    "http://, https://, s3://, gs:// or az://, or a path without \"://\"";
                return Err(Error::invalid("store", format!("{scheme}://…"), expected));
            }
        };
        // A bucket's keys may hold these characters.
        let is_http = server == Server::Http;
        let rest = if is_http { rest.split('#').next().unwrap_or_default() } else { rest };
        let (place, query) = if is_http {
            rest.split_once('?').map_or((rest, ""), |(place, query)| (place, query))
        } else {
            (rest, "")
        };
        let place = place.trim_end_matches('/');
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.contains('@') {
            let reason = "a URL with a user name";
            let remedy = "use a signed URL (https://…?token), or a bucket with credentials from \
                          the environment";
            return Err(Error::unsupported(reason, remedy));
        }
        let shown = format!("{scheme}://{place}");
        if bucket.is_empty() {
            let expected =
                if is_http { "https://HOST/STORE" } else { "a bucket, as s3://BUCKET/STORE" };
            return Err(Error::invalid("store", shown, expected));
        }
        let mark = if query.is_empty() { "" } else { "?" };
        let prefix = if is_http { String::new() } else { prefix.trim_matches('/').to_owned() };
        let url = format!("{shown}{mark}{query}");
        Ok(Self { server, url, shown, bucket: bucket.to_owned(), prefix })
    }

    /// The URL with its token, to be sent.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The URL without what may be secret.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// A name for the store's folder in a cache: readable, and different for each store.
    pub(super) fn folder_name(&self) -> String {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        // FNV-1a.
        let hash = self
            .shown
            .bytes()
            .fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
        let last = self.shown.rsplit('/').next().unwrap_or_default();
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let name: String = last.chars().filter(is_plain).take(40).collect();
        format!("{name}-{hash:032x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_tokens_out_of_sight() {
        let address = Address::parse("https://host:8/a b/store.zarr/?sig=secret#x").unwrap();
        assert_eq!(address.shown(), "https://host:8/a b/store.zarr");
        assert_eq!(address.url(), "https://host:8/a b/store.zarr?sig=secret");
        assert!(!format!("{address:?} {}", address.folder_name()).contains("secret"));
        let renewed = Address::parse("https://host:8/a b/store.zarr?sig=other").unwrap();
        assert_eq!(renewed.folder_name(), address.folder_name());
        let other = Address::parse("https://host:9/a b/store.zarr?sig=other").unwrap();
        assert_ne!(other.folder_name(), address.folder_name());
        let error = Address::parse("https://me:secret@host/store").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn buckets_and_prefixes_are_found() {
        let parse = |url| Address::parse(url).unwrap();
        let address = parse("s3://bucket/some/store #1.zarr/");
        assert_eq!(
            (address.bucket.as_str(), address.prefix.as_str()),
            ("bucket", "some/store #1.zarr")
        );
        assert_eq!(parse("gs://bucket").prefix, "");
        assert_eq!(parse("az://container/x").server, Server::Azure);
        for bad in ["s3://", "s3:///x", "https://", "ftp://host/x", "file:///x"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}

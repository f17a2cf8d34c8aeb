//! Requests to the server of one store, from any thread.
//!
//! # Invariants
//! - At most [`REQUESTS`] requests of a process are under way, each of whose answers is held in
//!   memory until it is written.
//! - A request ends: it is tried again a few times, and a server that stays silent is given up.
//! - A forked child has connections and threads of its own.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectStore, RetryConfig,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use super::address::{Address, Server};
use super::aws_profile::AwsProfile;
use super::failure::Failure;
use crate::sys::fork::PerProcess;

/// Requests of a process that are under way at a time.
const REQUESTS: usize = 64;
/// Threads that send and receive; they only wait and copy.
const THREADS: usize = 2;
/// Attempts at an answer that breaks off or is not what was asked for.
const ATTEMPTS: u32 = 5;
/// The longest time without a byte.
const SILENCE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(10);

/// The part of a file that is asked for.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// All of it, if it has at most so many bytes.
    Whole { limit: u64 },
    /// Its last bytes.
    Last(u64),
    /// Some of its bytes.
    Part(Range<u64>),
}

/// What a server has sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// Bytes of the whole file.
    pub(super) file_bytes: u64,
    /// What tells it from another file of the same name: its `ETag`, or when it was changed; empty
    /// if the server says neither.
    pub(super) version: String,
}

/// A client of one store.
#[derive(Debug)]
pub(super) struct Client {
    address: Address,
    connection: PerProcess<Result<Connection, Failure>>,
}

struct Connection {
    store: Arc<dyn ObjectStore>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A client knows its credentials.
        f.write_str("Connection")
    }
}

/// The threads of a process that send and receive.
struct Network {
    runtime: Runtime,
    requests: Semaphore,
}

impl Client {
    /// Prepares requests to `address`; sends none.
    ///
    /// # Errors
    /// Credentials that are incomplete, and what else a client refuses; the system's refusal of a
    /// thread.
    pub(super) fn new(address: Address) -> Result<Arc<Self>, Failure> {
        network()?;
        let connection = Connection::open(&address)?;
        Ok(Arc::new(Self { address, connection: PerProcess::new(Ok(connection)) }))
    }

    pub(super) fn server(&self) -> Server {
        self.address.server
    }

    /// Sends one request for a file, and tries it again where that may help.
    pub(super) async fn get(&self, path: &str, wanted: &Wanted) -> Result<Answer, Failure> {
        let mut attempt = 1;
        loop {
            let answer = self.try_get(path, wanted).await;
            match answer {
                Err(failure) if failure.is_transient && attempt < ATTEMPTS => {
                    tokio::time::sleep(pause(attempt, path)).await;
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    async fn try_get(&self, path: &str, wanted: &Wanted) -> Result<Answer, Failure> {
        let network = network()?;
        let _permit = network.requests.acquire().await.map_err(|_| closed())?;
        let store = &self.connection()?.store;
        let location = self.location(path)?;
        let failed = |error: object_store::Error| Failure::of(self.server(), &error);
        let range = match wanted {
            Wanted::Whole { .. } => None,
            // Azure knows no other way to a file's end.
            Wanted::Last(bytes) if self.server() == Server::Azure => {
                let head = GetOptions { head: true, ..GetOptions::default() };
                let size = store.get_opts(&location, head).await.map_err(failed)?.meta.size;
                Some(GetRange::Bounded(size.saturating_sub(*bytes)..size))
            }
            Wanted::Last(bytes) => Some(GetRange::Suffix(*bytes)),
            Wanted::Part(range) => Some(GetRange::Bounded(range.clone())),
        };
        let options = GetOptions { range, ..GetOptions::default() };
        let answer = store.get_opts(&location, options).await.map_err(failed)?;
        let (file_bytes, version) = (answer.meta.size, version(&answer));
        if let Wanted::Whole { limit } = wanted
            && file_bytes > *limit
        {
            let message = format!("longer than {limit} bytes");
            return Err(Failure::new(io::ErrorKind::InvalidData, message));
        }
        let expected = answer.range.end - answer.range.start;
        let bytes = Vec::from(answer.bytes().await.map_err(failed)?);
        if bytes.len() as u64 != expected {
            let message = format!("the server announced {expected} bytes and sent {}", bytes.len());
            return Err(Failure::odd(message));
        }
        Ok(Answer { bytes, file_bytes, version })
    }

    /// Names of the folders at the top of the store.
    pub(super) async fn folders(&self) -> Result<Vec<String>, Failure> {
        let prefix = self.location("")?;
        let listed = self.connection()?.store.list_with_delimiter(Some(&prefix)).await;
        let listed = listed.map_err(|error| Failure::of(self.server(), &error))?;
        let name =
            |path: &ObjectPath| path.as_ref().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(listed.common_prefixes.iter().map(name).collect())
    }

    fn connection(&self) -> Result<&Connection, Failure> {
        self.connection.get(|| Connection::open(&self.address)).as_ref().map_err(Clone::clone)
    }

    /// The place of a file of the store in its bucket.
    fn location(&self, path: &str) -> Result<ObjectPath, Failure> {
        let slash = if self.address.prefix.is_empty() || path.is_empty() { "" } else { "/" };
        let path = format!("{}{slash}{path}", self.address.prefix);
        ObjectPath::parse(path).map_err(|_| {
            let message = "the store's path has an empty part, or one of dots";
            Failure::new(io::ErrorKind::NotFound, message)
        })
    }
}

impl Connection {
    fn open(address: &Address) -> Result<Self, Failure> {
        let failed = |error: object_store::Error| Failure::of(address.server, &error);
        let store: Arc<dyn ObjectStore> = match address.server {
            Server::Http => {
                let build = |options| {
                    let builder = HttpBuilder::new().with_url(address.url());
                    builder.with_retry(retries()).with_client_options(options).build()
                };
                let built = match build(options(true)) {
                    // A machine without certificates can do without TLS.
                    Err(_) if address.url().starts_with("http://") => {
                        build(options(true).with_no_system_certificates(true))
                    }
                    built => built,
                };
                Arc::new(built.map_err(failed)?)
            }
            Server::S3 => Arc::new(amazon(&address.bucket).build().map_err(failed)?),
            Server::Google => {
                let builder = GoogleCloudStorageBuilder::from_env()
                    .with_bucket_name(&address.bucket)
                    .with_retry(retries())
                    .with_client_options(options(false));
                Arc::new(builder.build().map_err(failed)?)
            }
            Server::Azure => {
                let builder = MicrosoftAzureBuilder::from_env()
                    .with_container_name(&address.bucket)
                    .with_retry(retries())
                    .with_client_options(options(is_set("AZURE_ALLOW_HTTP")));
                Arc::new(builder.build().map_err(failed)?)
            }
        };
        Ok(Self { store })
    }
}

/// A client of Amazon's protocol, with what the environment and the user's profile say.
fn amazon(bucket: &str) -> AmazonS3Builder {
    let endpoints = ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];
    let is_plain = |name: &&str| std::env::var(name).is_ok_and(|url| url.starts_with("http://"));
    let allow_http = endpoints.iter().any(is_plain) || is_set("AWS_ALLOW_HTTP");
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retries())
        .with_client_options(options(allow_http));
    let is_given = |key: &AmazonS3ConfigKey, builder: &AmazonS3Builder| {
        builder.get_config_value(key).is_some()
    };
    let other = [
        AmazonS3ConfigKey::AccessKeyId,
        AmazonS3ConfigKey::WebIdentityTokenFile,
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
    ];
    let profile = AwsProfile::of_user();
    if !other.iter().any(|key| is_given(key, &builder))
        && let (Some(id), Some(secret)) = (profile.access_key_id, profile.secret_access_key)
    {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        if let Some(token) = profile.session_token {
            builder = builder.with_token(token);
        }
    }
    match profile.region {
        Some(region) if !is_given(&AmazonS3ConfigKey::Region, &builder) => {
            builder.with_region(region)
        }
        _ => builder,
    }
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| matches!(value.as_str(), "1" | "true" | "TRUE"))
}

fn options(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_timeout_disabled()
        .with_read_timeout(SILENCE)
        .with_connect_timeout(CONNECT)
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 6,
        retry_timeout: Duration::from_mins(1),
    }
}

/// The pause after a failed attempt: longer each time, and different for each file.
fn pause(attempt: u32, path: &str) -> Duration {
    let spread = u64::from(crc32c::crc32c(path.as_bytes())) % 100;
    Duration::from_millis((50 << attempt) + spread)
}

fn version(answer: &GetResult) -> String {
    let meta = &answer.meta;
    match (&meta.e_tag, meta.last_modified.timestamp_millis()) {
        (Some(tag), _) => tag.clone(),
        (None, 0) => String::new(),
        (None, changed) => changed.to_string(),
    }
}

fn closed() -> Failure {
    Failure::new(io::ErrorKind::Interrupted, "the process ends")
}

/// This process's threads, which start at the first request.
fn network() -> Result<&'static Network, Failure> {
    static NETWORK: OnceLock<PerProcess<Result<Network, Failure>>> = OnceLock::new();
    let start = || {
        // Fails if the program around this library has chosen another one, which will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let refused = |e: io::Error| {
            Failure::new(e.kind(), format!("cannot start a thread for requests: {e}"))
        };
        // Tokio panics where the system refuses a thread. So this asks for one first.
        let tried = thread::Builder::new().spawn(|| ()).map_err(refused)?;
        tried.join().map_err(|_| closed())?;
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("voxquarry-fetch").enable_all();
        let runtime = builder.build().map_err(refused)?;
        Ok(Network { runtime, requests: Semaphore::new(REQUESTS) })
    };
    let network = NETWORK.get_or_init(|| PerProcess::new(start())).get(start);
    network.as_ref().map_err(Clone::clone)
}

/// Runs `future` to its end; the caller's thread waits.
pub(super) fn wait_for<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    network()?.runtime.block_on(future)
}

/// Runs `future` on a thread of this process's own; does not wait for it.
pub(super) fn begin(future: impl Future<Output = ()> + Send + 'static) -> Result<(), Failure> {
    network()?.runtime.spawn(future);
    Ok(())
}

//! A static file server for the page: `www/` at `/`, with `pkg/`, `bundles/` and the samples mounted beside it.
//!
//! It answers as a good static host does: right types, byte ranges, validators, and the two headers that make a page
//! cross-origin isolated.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    thread,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    http::{HeaderValue, header},
};
use tower_http::{services::ServeDir, set_header::SetResponseHeaderLayer};

use crate::{places, process::say, samples};

/// Sent with every answer.
const HEADERS: [(header::HeaderName, &str); 5] = [
    (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (header::HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    // A page that was built anew is shown anew.
    (header::CACHE_CONTROL, "no-cache"),
];

/// The folders that are served.
pub struct Site {
    root: PathBuf,
    /// An address below the root, and its folder.
    mounts: Vec<(&'static str, PathBuf)>,
}

impl Site {
    /// The page as `cargo xtask demo` shows it.
    pub fn of_checkout() -> Self {
        let root = places::root();
        let mounts =
            vec![("/pkg", root.join("pkg")), ("/bundles", root.join("bundles")), ("/samples", samples::folder())];
        Self { root: root.join("www"), mounts }
    }

    fn router(self) -> Router {
        let files = Router::new().fallback_service(ServeDir::new(self.root));
        let files = self
            .mounts
            .into_iter()
            .fold(files, |router, (address, folder)| router.nest_service(address, ServeDir::new(folder)));
        HEADERS.into_iter().fold(files, |router, (name, value)| {
            router.layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)))
        })
    }
}

/// Starts the server in the background and returns the port that it listens on, on this machine only.
///
/// `port` 0 takes a free one.
///
/// # Errors
/// The port is taken.
pub fn start(site: Site, port: u16) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot listen on port {port}; choose another with --port"))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, site.router()).await
        });
        if let Err(error) = served {
            say(format!("the server stopped: {error}"));
        }
    });
    Ok(port)
}

/// Serves until the process is ended.
///
/// # Errors
/// The port is taken.
pub fn serve(port: u16) -> Result<()> {
    let built = [("pkg/dist/bubo.js", "web"), ("bundles/bubo-mini/bundle.json", "bundle")];
    for (file, command) in built.iter().filter(|(file, _)| !places::root().join(file).is_file()) {
        say(format!("{file} is missing: `cargo xtask {command}` builds it"));
    }
    let port = start(Site::of_checkout(), port)?;
    println!("http://localhost:{port}/");
    loop {
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        net::TcpStream,
    };

    use super::*;

    /// A server of a folder with a page, ten bytes of WebAssembly and a mounted folder beside a secret.
    fn example() -> (tempfile::TempDir, u16) {
        let folder = tempfile::tempdir().unwrap();
        let [www, data] = ["www", "data"].map(|name| folder.path().join(name));
        for new in [&www, &www.join("sub"), &data] {
            fs::create_dir(new).unwrap();
        }
        fs::write(www.join("index.html"), "<p>hello").unwrap();
        fs::write(www.join("data.wasm"), "0123456789").unwrap();
        fs::write(data.join("a b.js"), "1").unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        let port = start(Site { root: www, mounts: vec![("/data", data)] }, 0).unwrap();
        (folder, port)
    }

    /// Asks a running server over a real connection.
    fn ask(port: u16, request: &str) -> (String, String) {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        write!(connection, "{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn files_come_with_their_types_and_the_headers_of_isolation() {
        let (_folder, port) = example();
        let (head, body) = ask(port, "GET / HTTP/1.1");
        for expected in [
            "HTTP/1.1 200",
            "content-type: text/html",
            "content-length: 8",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-embedder-policy: require-corp",
            "last-modified: ",
        ] {
            assert!(head.contains(expected), "{expected}: {head}");
        }
        assert_eq!(body, "<p>hello");
        let (head, _) = ask(port, "GET /data/a%20b.js HTTP/1.1");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/javascript"), "{head}");
    }

    #[test]
    fn ranges_and_unchanged_files_are_answered_in_short() {
        let (_folder, port) = example();
        let (head, body) = ask(port, "GET /data.wasm HTTP/1.1\r\nRange: bytes=3-5");
        assert!(head.starts_with("HTTP/1.1 206") && head.contains("content-range: bytes 3-5/10"), "{head}");
        assert!(head.contains("content-type: application/wasm"), "{head}");
        assert_eq!(body, "345");
        let (head, _) = ask(port, "GET /data.wasm HTTP/1.1\r\nRange: bytes=10-");
        assert!(head.starts_with("HTTP/1.1 416") && head.contains("content-range: bytes */10"), "{head}");

        let (head, _) = ask(port, "HEAD /data.wasm HTTP/1.1");
        let changed = head.lines().find_map(|line| line.strip_prefix("last-modified: ")).unwrap().to_owned();
        let (head, body) = ask(port, &format!("GET /data.wasm HTTP/1.1\r\nIf-Modified-Since: {changed}"));
        assert!(head.starts_with("HTTP/1.1 304") && body.is_empty(), "{head}");
    }

    #[test]
    fn nothing_outside_the_folders_is_served() {
        let (_folder, port) = example();
        let hostile = [
            "/../secret",
            "/data/../../secret",
            "/%2e%2e/secret",
            "/data/%2E%2E/%2e%2e/secret",
            "/..%2fsecret",
            "/data//etc/passwd",
            "/%2fetc/passwd",
            "/..%5csecret",
            "/a%00b",
            "/%zz",
            "/%ff",
            "/sub/",
            "/absent",
        ];
        for address in hostile {
            let (head, body) = ask(port, &format!("GET {address} HTTP/1.1"));
            assert!(head.starts_with("HTTP/1.1 4"), "{address}: {head}");
            assert!(!body.contains("secret") && !body.contains("root:"), "{address}: {body}");
        }
        let (head, _) = ask(port, "POST / HTTP/1.1\r\nContent-Length: 0");
        assert!(head.starts_with("HTTP/1.1 405"), "{head}");
    }

    /// A browser opens several connections, leaves some idle, and stops reading from others while it is busy.
    #[test]
    fn idle_and_slow_connections_make_nobody_wait() {
        let (folder, port) = example();
        fs::write(folder.path().join("www/large.bin"), vec![0; 16 << 20]).unwrap();
        let mut waiting = Vec::new();
        for request in ["", "GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n"].repeat(20) {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            write!(connection, "{request}").unwrap();
            waiting.push(connection);
        }
        let (head, _) = ask(port, "GET / HTTP/1.1");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

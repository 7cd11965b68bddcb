//! A static file server for the page: `www/` at `/`, with `pkg/`, `bundles/` and the samples mounted beside it.
//!
//! It answers as a good static host does: right types, byte ranges, validators, and the two headers that make a page
//! cross-origin isolated.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::Ipv4Addr,
    path::{Component, Path, PathBuf},
    sync::Arc,
    thread,
    time::UNIX_EPOCH,
};

use anyhow::{Result, anyhow};
use tiny_http::{Header, Method, Request, Response, ResponseBox, Server, StatusCode};

use crate::{places, process::say, samples};

const WORKERS: usize = 8;

/// The folders that are served: an address prefix, which starts and ends with `/`, and its folder. Longer ones first.
#[derive(Clone)]
pub struct Site {
    mounts: Vec<(String, PathBuf)>,
}

impl Site {
    /// The page as `cargo xtask demo` shows it.
    pub fn of_checkout() -> Self {
        let root = places::root();
        let mount = |prefix: &str, folder: PathBuf| (prefix.to_owned(), folder);
        Self {
            mounts: vec![
                mount("/pkg/", root.join("pkg")),
                mount("/bundles/", root.join("bundles")),
                mount("/samples/", samples::folder()),
                mount("/", root.join("www")),
            ],
        }
    }

    /// Finds the file of an address path, `None` if the path is malformed or leads out of its folder.
    fn locate(&self, address_path: &str) -> Option<PathBuf> {
        let decoded = percent_decoded(address_path)?;
        let (prefix, folder) = self.mounts.iter().find(|(prefix, _)| decoded.starts_with(prefix.as_str()))?;
        let inner = Path::new(&decoded[prefix.len()..]);
        // Only plain names: no `..`, no second root, no drive letter.
        let is_plain = inner.components().all(|part| matches!(part, Component::Normal(_)));
        let is_clean = !decoded.contains(['\\', '\0']) && !decoded.contains("//");
        (is_plain && is_clean).then(|| folder.join(inner))
    }
}

/// Starts the server in the background and returns the port that it listens on, on this machine only.
///
/// `port` 0 takes a free one.
///
/// # Errors
/// The port is taken.
pub fn start(site: Site, port: u16) -> Result<u16> {
    let server = Server::http((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| anyhow!("cannot listen on port {port}: {error}; choose another with --port"))?;
    let port = server.server_addr().to_ip().map_or(port, |address| address.port());
    let server = Arc::new(server);
    for _ in 0..WORKERS {
        let (server, site) = (Arc::clone(&server), site.clone());
        thread::spawn(move || {
            while let Ok(request) = server.recv() {
                let response = answer(&site, &request);
                // The browser may have gone away; that is its right.
                let _ = request.respond(response);
            }
        });
    }
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

fn answer(site: &Site, request: &Request) -> ResponseBox {
    if !matches!(request.method(), Method::Get | Method::Head) {
        return plain(405, "only GET and HEAD are answered");
    }
    let address = request.url();
    let (address_path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    let Some(mut path) = site.locate(address_path) else {
        return plain(400, "this is no address of a file here");
    };
    if path.is_dir() {
        if !address_path.ends_with('/') {
            let query = query.map_or(String::new(), |query| format!("?{query}"));
            return with_headers(plain(301, "moved"), &[("Location", &format!("{address_path}/{query}"))]);
        }
        path.push("index.html");
    }
    let asked = |name: &str| {
        let header = request.headers().iter().find(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
        header.map(|header| header.value.as_str().to_owned())
    };
    file_response(&path, asked("Range").as_deref(), asked("If-None-Match").as_deref(), asked("If-Range").as_deref())
        .unwrap_or_else(|_| plain(404, "there is no such file"))
}

fn file_response(
    path: &Path,
    range: Option<&str>,
    known: Option<&str>,
    range_if: Option<&str>,
) -> std::io::Result<ResponseBox> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    let length = metadata.len();
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let tag = format!("\"{length:x}-{changed:x}\"");
    let headers = [("Content-Type", media_type(path)), ("ETag", &tag), ("Accept-Ranges", "bytes")];
    if known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        return Ok(with_headers(Response::empty(304).boxed(), &headers));
    }
    // A range of an older file would not fit to this one.
    let range = range.filter(|_| range_if.is_none_or(|range_if| range_if == tag));
    let (status, first, count) = match range.map(|range| parse_range(range, length)) {
        None | Some(Range::Ignored) => (200, 0, length),
        Some(Range::Bytes { first, last }) => (206, first, last - first + 1),
        Some(Range::Unsatisfiable) => {
            let whole = format!("bytes */{length}");
            return Ok(with_headers(plain(416, "the file is shorter"), &[("Content-Range", &whole)]));
        }
    };
    file.seek(SeekFrom::Start(first))?;
    let body: Box<dyn Read + Send> = Box::new(file.take(count));
    let size = usize::try_from(count).ok();
    let response = Response::new(StatusCode(status), vec![], body, size, None)
        // A known length shows the browser how far a download is; so never send chunks.
        .with_chunked_threshold(usize::MAX)
        .boxed();
    let mut response = with_headers(response, &headers);
    if status == 206 {
        let part = format!("bytes {first}-{}/{length}", first + count - 1);
        response = with_headers(response, &[("Content-Range", &part)]);
    }
    Ok(response)
}

fn plain(status: u16, message: &str) -> ResponseBox {
    let response = Response::from_string(format!("{message}\n")).with_status_code(status).boxed();
    with_headers(response, &[("Content-Type", "text/plain; charset=utf-8")])
}

fn with_headers(mut response: ResponseBox, headers: &[(&str, &str)]) -> ResponseBox {
    const ALWAYS: [(&str, &str); 5] = [
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Embedder-Policy", "require-corp"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
    ];
    for (name, value) in headers.iter().chain(&ALWAYS) {
        let is_set = response.headers().iter().any(|header| header.field.as_str().as_str() == *name);
        if let (false, Ok(header)) = (is_set, Header::from_bytes(*name, *value)) {
            response.add_header(header);
        }
    }
    response
}

#[derive(Debug, PartialEq)]
enum Range {
    /// First and last byte, both within the file.
    Bytes {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
    /// Malformed or of several parts: the whole file is the right answer.
    Ignored,
}

fn parse_range(header: &str, length: u64) -> Range {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Range::Ignored;
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Digits that overflow lie beyond every file.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    let (first, last) = match (first, last) {
        ("", suffix) if is_number(suffix) => match number(suffix) {
            0 => return Range::Unsatisfiable,
            count => (length.saturating_sub(count), u64::MAX),
        },
        (first, "") if is_number(first) => (number(first), u64::MAX),
        (first, last) if is_number(first) && is_number(last) => (number(first), number(last)),
        _ => return Range::Ignored,
    };
    match (first > last, first >= length) {
        (true, _) => Range::Ignored,
        (false, true) => Range::Unsatisfiable,
        (false, false) => Range::Bytes { first, last: last.min(length - 1) },
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "ico" => "image/x-icon",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "mp3" => "audio/mpeg",
        "flac" => "audio/flac",
        "txt" | "md" | "ts" | "wgsl" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, net::TcpStream};

    use super::*;

    #[test]
    fn ranges_follow_the_standard() {
        let bytes = |first, last| Range::Bytes { first, last };
        let cases = [
            ("bytes=0-0", 10, bytes(0, 0)),
            ("bytes=2-5", 10, bytes(2, 5)),
            ("bytes=5-", 10, bytes(5, 9)),
            ("bytes=5-99999999999999999999", 10, bytes(5, 9)),
            ("bytes=-3", 10, bytes(7, 9)),
            ("bytes=-30", 10, bytes(0, 9)),
            ("bytes=10-", 10, Range::Unsatisfiable),
            ("bytes=-0", 10, Range::Unsatisfiable),
            ("bytes=0-", 0, Range::Unsatisfiable),
            ("bytes=5-2", 10, Range::Ignored),
            ("bytes=0-1,3-4", 10, Range::Ignored),
            ("bytes=+1-2", 10, Range::Ignored),
            ("bytes=-", 10, Range::Ignored),
            ("lines=0-1", 10, Range::Ignored),
        ];
        for (header, length, expected) in cases {
            assert_eq!(parse_range(header, length), expected, "{header} of {length}");
        }
    }

    #[test]
    fn addresses_stay_inside_their_folder() {
        let site = Site { mounts: vec![("/pkg/".into(), "/site/pkg".into()), ("/".into(), "/site/www".into())] };
        let found = |address: &str| site.locate(address).map(|path| path.display().to_string());
        assert_eq!(found("/").as_deref(), Some("/site/www/"));
        assert_eq!(found("/app.js").as_deref(), Some("/site/www/app.js"));
        assert_eq!(found("/pkg/a%20b.js").as_deref(), Some("/site/pkg/a b.js"));
        for hostile in [
            "/../secret",
            "/pkg/../../secret",
            "/%2e%2e/secret",
            "/pkg/%2E%2E/%2e%2e/secret",
            "/pkg//etc/passwd",
            "/%2fetc/passwd",
            "/..%5csecret",
            "/a%00b",
            "/%zz",
            "/%f",
            "/%ff",
            "secret",
        ] {
            assert_eq!(found(hostile), None, "{hostile}");
        }
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
    fn a_running_server_sends_files_ranges_and_headers() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("index.html"), "<p>hello").unwrap();
        fs::write(folder.path().join("data.wasm"), "0123456789").unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        let site = Site { mounts: vec![("/".into(), folder.path().to_owned())] };
        let port = start(site, 0).unwrap();

        let (head, body) = ask(port, "GET / HTTP/1.1");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("Content-Type: text/html"), "{head}");
        assert!(head.contains("Cross-Origin-Opener-Policy: same-origin"), "{head}");
        assert!(head.contains("Cross-Origin-Embedder-Policy: require-corp"), "{head}");
        assert_eq!(body, "<p>hello");

        let (head, body) = ask(port, "GET /data.wasm HTTP/1.1\r\nRange: bytes=3-5");
        assert!(head.starts_with("HTTP/1.1 206"), "{head}");
        assert!(head.contains("Content-Range: bytes 3-5/10"), "{head}");
        assert!(head.contains("Content-Type: application/wasm"), "{head}");
        assert_eq!(body, "345");

        let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().to_owned();
        let (head, body) = ask(port, &format!("GET /data.wasm HTTP/1.1\r\nIf-None-Match: {tag}"));
        assert!(head.starts_with("HTTP/1.1 304") && body.is_empty(), "{head}");
        let (head, body) = ask(port, "GET /data.wasm HTTP/1.1\r\nRange: bytes=3-5\r\nIf-Range: \"other\"");
        assert!(head.starts_with("HTTP/1.1 200") && body == "0123456789", "{head}");

        let expectations = [
            ("HEAD /data.wasm HTTP/1.1", "200"),
            ("GET /data.wasm HTTP/1.1\r\nRange: bytes=10-", "416"),
            ("GET /sub HTTP/1.1", "301"),
            ("GET /sub/ HTTP/1.1", "404"),
            ("GET /absent HTTP/1.1", "404"),
            ("GET /../Cargo.toml HTTP/1.1", "400"),
            ("POST / HTTP/1.1\r\nContent-Length: 0", "405"),
        ];
        for (request, status) in expectations {
            let (head, _) = ask(port, request);
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {head}");
        }
    }
}

//! A bundle behind an HTTP address.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use js_sys::{Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Headers, ReadableStreamDefaultReader, RequestCache, RequestInit, Response};

use super::host::{Stop, Transfer, scope, timeout};
use super::message;
use crate::bundle::{Body, MANIFEST_FILE, Reading, Source, SourceError};

/// A host that sends nothing for so long has gone away.
const SILENCE_MS: u32 = 30_000;

/// The folder of a `bundle.json` on any static host, read with `fetch`.
pub struct HttpSource {
    manifest_url: String,
    /// The command that loads now; transfers end when it is stopped.
    stop: RefCell<Rc<Stop>>,
}

impl HttpSource {
    /// The bundle whose manifest is at that address.
    pub fn new(manifest_url: &str) -> Self {
        Self { manifest_url: manifest_url.to_owned(), stop: RefCell::default() }
    }

    /// Ties the transfers that begin from now on to a command.
    pub fn set_stop(&self, stop: Rc<Stop>) {
        self.stop.replace(stop);
    }

    /// The address without file name, query and fragment, with its last `/`.
    fn folder(&self) -> &str {
        let path_end = self.manifest_url.find(['?', '#']).unwrap_or(self.manifest_url.len());
        let path = &self.manifest_url[..path_end];
        &path[..path.rfind('/').map_or(0, |slash| slash + 1)]
    }

    fn url(&self, name: &str) -> String {
        if name == MANIFEST_FILE { self.manifest_url.clone() } else { format!("{}{name}", self.folder()) }
    }
}

#[async_trait(?Send)]
impl Source for HttpSource {
    fn address(&self) -> String {
        self.manifest_url.clone()
    }

    async fn open(&self, name: &str, start: u64) -> Result<Reading, SourceError> {
        let stop = Rc::clone(&self.stop.borrow());
        let broken = |error: JsValue| SourceError::temporary(format!("the network gave: {}", message(&error)));
        let transfer = stop.transfer().map_err(broken)?;
        let request = request(start, &transfer, name == MANIFEST_FILE).map_err(broken)?;
        let url = self.url(name);
        let answer = JsFuture::from(scope().fetch_with_str_and_init(&url, &request));
        let response: Response = in_time(answer).await?.map_err(broken)?.unchecked_into();
        let status = response.status();
        if status == 416 || !response.ok() {
            return Err(refusal(status, &response));
        }
        let begin = if status == 206 { start } else { 0 };
        let left = header(&response, "content-length").and_then(|length| length.parse::<u64>().ok());
        // Of a compressed answer the length says nothing about the file.
        let left = left.filter(|_| header(&response, "content-encoding").is_none());
        let stream = response.body().ok_or_else(|| SourceError::temporary("the answer has no body"))?;
        let reader = stream.get_reader().unchecked_into();
        let body = Box::new(HttpBody { reader, _transfer: transfer });
        Ok(Reading { start: begin, total_bytes: left.map(|left| begin + left), body })
    }
}

fn request(start: u64, transfer: &Transfer, is_manifest: bool) -> Result<RequestInit, JsValue> {
    let request = RequestInit::new();
    request.set_signal(Some(&transfer.controller.signal()));
    // Shards have a cache of their own; the manifest may change under its name.
    request.set_cache(if is_manifest { RequestCache::NoCache } else { RequestCache::NoStore });
    if start > 0 {
        let headers = Headers::new()?;
        headers.set("range", &format!("bytes={start}-"))?;
        request.set_headers(&headers);
    }
    Ok(request)
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).ok().flatten()
}

fn refusal(status: u16, response: &Response) -> SourceError {
    let reason = format!("the host answered {status} {}", response.status_text()).trim_end().to_owned();
    if status == 429 || status >= 500 {
        let seconds = header(response, "retry-after").and_then(|value| value.trim().parse::<u32>().ok());
        SourceError::Temporary { reason, retry_after_ms: seconds.map(|seconds| seconds.saturating_mul(1000)) }
    } else {
        SourceError::Refused(reason)
    }
}

/// What comes before the host has been silent for too long.
async fn in_time(future: JsFuture) -> Result<Result<JsValue, JsValue>, SourceError> {
    match select(future, pin!(timeout(SILENCE_MS))).await {
        Either::Left((result, _)) => Ok(result),
        Either::Right(_) => Err(SourceError::temporary(format!("the host sent nothing for {} s", SILENCE_MS / 1000))),
    }
}

struct HttpBody {
    reader: ReadableStreamDefaultReader,
    _transfer: Rc<Transfer>,
}

#[async_trait(?Send)]
impl Body for HttpBody {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        let broken = |error: JsValue| SourceError::temporary(format!("the transfer broke: {}", message(&error)));
        let chunk = in_time(JsFuture::from(self.reader.read())).await?.map_err(broken)?;
        let done = Reflect::get(&chunk, &"done".into()).map_err(broken)?;
        if done.is_truthy() {
            return Ok(None);
        }
        let value: Uint8Array = Reflect::get(&chunk, &"value".into()).map_err(broken)?.unchecked_into();
        Ok(Some(value.to_vec()))
    }
}

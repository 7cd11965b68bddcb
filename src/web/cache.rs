//! Files that stay in the browser: the origin-private file system (OPFS).
//!
//! The folder `bubo` holds one file a key; while a file is not finished, its name ends in `.part`, which no key does.

use std::cell::RefCell;
use std::collections::BTreeMap;

use async_trait::async_trait;
use js_sys::{Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemGetFileOptions,
    FileSystemReadWriteOptions, FileSystemSyncAccessHandle,
};

use super::host::scope;
use super::message;
use crate::bundle::{Cache, Held};
use crate::error::{Error, Result};

const FOLDER: &str = "bubo";
const UNFINISHED: &str = ".part";

/// Keeps files in the page's own part of the disk, which only pages of this origin can read.
pub struct OpfsCache {
    folder: FileSystemDirectoryHandle,
    /// Files that are being written. Only one writer can have a file open, and opening one is slow.
    writers: RefCell<BTreeMap<String, FileSystemSyncAccessHandle>>,
    /// Finished files that are being read.
    readers: RefCell<BTreeMap<String, File>>,
}

impl OpfsCache {
    /// Opens the cache.
    ///
    /// # Errors
    /// [`Error::Fetch`] where there is none, as in some private windows.
    pub async fn open() -> Result<Self> {
        let folder = async {
            let storage = scope().navigator().storage();
            let root: FileSystemDirectoryHandle = JsFuture::from(storage.get_directory()).await?.unchecked_into();
            let options = FileSystemGetDirectoryOptions::new();
            options.set_create(true);
            let folder = JsFuture::from(root.get_directory_handle_with_options(FOLDER, &options)).await?;
            Ok(folder.unchecked_into())
        };
        let folder = folder.await.map_err(|error: JsValue| failed("the browser's storage", &error))?;
        Ok(Self { folder, writers: RefCell::default(), readers: RefCell::default() })
    }

    /// The file of that name; `None` if there is none and it is not to be made.
    async fn file(&self, name: &str, create: bool) -> Result<Option<FileSystemFileHandle>, JsValue> {
        let options = FileSystemGetFileOptions::new();
        options.set_create(create);
        match JsFuture::from(self.folder.get_file_handle_with_options(name, &options)).await {
            Ok(handle) => Ok(Some(handle.unchecked_into())),
            Err(error) if is_named(&error, "NotFoundError") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn contents(&self, name: &str) -> Result<Option<File>, JsValue> {
        match self.file(name, false).await? {
            Some(handle) => Ok(Some(JsFuture::from(handle.get_file()).await?.unchecked_into())),
            None => Ok(None),
        }
    }

    /// Opens an unfinished file for writing, as the only one who does.
    async fn open_writer(&self, key: &str) -> Result<(), JsValue> {
        if self.writers.borrow().contains_key(key) {
            return Ok(());
        }
        let handle = self.file(&unfinished(key), true).await?.ok_or(JsValue::NULL)?;
        let writer = JsFuture::from(handle.create_sync_access_handle()).await?.unchecked_into();
        self.writers.borrow_mut().insert(key.to_owned(), writer);
        Ok(())
    }

    fn close_writer(&self, key: &str) {
        if let Some(writer) = self.writers.borrow_mut().remove(key) {
            let _ = writer.flush();
            writer.close();
        }
    }

    async fn write(&self, key: &str, at: u64, bytes: &[u8]) -> Result<(), JsValue> {
        self.open_writer(key).await?;
        let writers = self.writers.borrow();
        let Some(writer) = writers.get(key) else { return Err("the file was closed".into()) };
        let length = writer.get_size()?;
        if length < at as f64 {
            return Err(format!("the file ends at byte {length}, not at {at}").into());
        }
        if length > at as f64 {
            writer.truncate_with_f64(at as f64)?;
        }
        let options = FileSystemReadWriteOptions::new();
        options.set_at(at as f64);
        // A copy in JavaScript's memory: threads may share ours, which the file system does not take.
        let written = writer.write_with_buffer_source_and_options(&Uint8Array::from(bytes), &options)?;
        if written < bytes.len() as f64 { Err("the disk is full".into()) } else { Ok(()) }
    }

    async fn out_of_room(&self, key: &str, wanted: usize, error: &JsValue) -> Error {
        if !is_named(error, "QuotaExceededError") && error.as_string().as_deref() != Some("the disk is full") {
            return failed(key, error);
        }
        let free = match scope().navigator().storage().estimate().map(JsFuture::from) {
            Ok(estimate) => estimate.await.ok().map(|estimate| {
                let number = |name: &str| Reflect::get(&estimate, &name.into()).ok()?.as_f64();
                number("quota").unwrap_or_default() - number("usage").unwrap_or_default()
            }),
            Err(_) => None,
        };
        let free_mb = free.unwrap_or_default().max(0.0) / 1e6;
        Error::OutOfMemory(format!(
            "the browser gives this page no more room on the disk: {free_mb:.0} MB are free, {:.1} MB more are needed",
            wanted as f64 / 1e6
        ))
    }

    async fn held_bytes(&self, key: &str) -> Result<Held, JsValue> {
        if let Some(file) = self.contents(key).await? {
            return Ok(Held { bytes: file.size() as u64, complete: true });
        }
        if let Some(writer) = self.writers.borrow().get(key) {
            return Ok(Held { bytes: writer.get_size()? as u64, complete: false });
        }
        let bytes = self.contents(&unfinished(key)).await?.map_or(0, |file| file.size() as u64);
        Ok(Held { bytes, complete: false })
    }

    async fn read_bytes(&self, key: &str, start: u64, len: usize) -> Result<Vec<u8>, JsValue> {
        if let Some(writer) = self.writers.borrow().get(key) {
            let options = FileSystemReadWriteOptions::new();
            options.set_at(start as f64);
            let len = (writer.get_size()? - start as f64).clamp(0.0, len as f64) as u32;
            let buffer = Uint8Array::new_with_length(len);
            writer.read_with_buffer_source_and_options(&buffer, &options)?;
            return Ok(buffer.to_vec());
        }
        let known = self.readers.borrow().get(key).cloned();
        let file = match known {
            Some(file) => file,
            None => match self.contents(key).await? {
                Some(file) => file,
                None => self.contents(&unfinished(key)).await?.ok_or("there is no such file")?,
            },
        };
        let end = start as f64 + len as f64;
        if end >= file.size() {
            self.readers.borrow_mut().remove(key);
        } else {
            self.readers.borrow_mut().insert(key.to_owned(), file.clone());
        }
        let slice = file.slice_with_f64_and_f64(start as f64, end)?;
        let bytes = JsFuture::from(slice.array_buffer()).await?;
        Ok(Uint8Array::new(&bytes).to_vec())
    }

    async fn rename_finished(&self, key: &str) -> Result<(), JsValue> {
        self.close_writer(key);
        let handle = self.file(&unfinished(key), false).await?.ok_or("there is no such file")?;
        let rename: Function = Reflect::get(&handle, &"move".into())?.dyn_into()?;
        JsFuture::from(Promise::from(rename.call1(&handle, &key.into())?)).await?;
        Ok(())
    }

    async fn remove_name(&self, name: &str) -> Result<(), JsValue> {
        match JsFuture::from(self.folder.remove_entry(name)).await {
            Err(error) if !is_named(&error, "NotFoundError") => Err(error),
            _ => Ok(()),
        }
    }

    async fn names(&self) -> Result<Vec<String>, JsValue> {
        let names = self.folder.keys();
        let mut found = Vec::new();
        loop {
            let next = JsFuture::from(names.next()?).await?;
            if Reflect::get(&next, &"done".into())?.is_truthy() {
                return Ok(found);
            }
            found.extend(Reflect::get(&next, &"value".into())?.as_string());
        }
    }
}

#[async_trait(?Send)]
impl Cache for OpfsCache {
    async fn held(&self, key: &str) -> Result<Held> {
        self.held_bytes(key).await.map_err(|error| failed(key, &error))
    }

    async fn read(&self, key: &str, start: u64, len: usize) -> Result<Vec<u8>> {
        self.read_bytes(key, start, len).await.map_err(|error| failed(key, &error))
    }

    async fn append(&self, key: &str, at: u64, bytes: &[u8]) -> Result<()> {
        match self.write(key, at, bytes).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.out_of_room(key, bytes.len(), &error).await),
        }
    }

    async fn finish(&self, key: &str) -> Result<()> {
        self.rename_finished(key).await.map_err(|error| failed(key, &error))
    }

    async fn remove(&self, key: &str) -> Result<()> {
        self.close_writer(key);
        self.readers.borrow_mut().remove(key);
        self.remove_name(key).await.map_err(|error| failed(key, &error))?;
        self.remove_name(&unfinished(key)).await.map_err(|error| failed(key, &error))
    }

    async fn keys(&self) -> Result<Vec<String>> {
        let names = self.names().await.map_err(|error| failed("the browser's storage", &error))?;
        Ok(names.iter().map(|name| name.strip_suffix(UNFINISHED).unwrap_or(name).to_owned()).collect())
    }
}

impl Drop for OpfsCache {
    fn drop(&mut self) {
        for writer in self.writers.borrow().values() {
            writer.close();
        }
    }
}

fn unfinished(key: &str) -> String {
    format!("{key}{UNFINISHED}")
}

fn is_named(error: &JsValue, name: &str) -> bool {
    Reflect::get(error, &"name".into()).is_ok_and(|found| found == name)
}

fn failed(name: &str, error: &JsValue) -> Error {
    Error::Fetch { name: name.to_owned(), reason: message(error) }
}

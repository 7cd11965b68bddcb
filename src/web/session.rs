//! A session as JavaScript holds it: commands with numbers, each with its own host, so that each can be stopped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use js_sys::{Function, Reflect};
use serde::Serialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use super::cache::OpfsCache;
use super::host::{Stop, WorkerHost};
use super::source::HttpSource;
use super::{taught, to_js};
use crate::bundle::{Cache, Loader, NoCache};
use crate::error::{Error, Result};
use crate::grounding::taught::Encoders;
use crate::host::Host;
use crate::media::{RgbImage, Waveform};
use crate::nn::WeightSink;
use crate::session::stages::{StageOptions, StageReport};
use crate::session::{AskOptions, Session, TaughtList, Teaching};
use crate::tensor::Device;
use crate::tensor::gpu::{Gpu, KernelFailure};

/// How often a command looks whether the parts that it needs have come.
const PART_WAIT_MS: u32 = 20;

/// Where a session works.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenOptions {
    /// `wasm` or `webgpu`.
    device: String,
}

/// A loaded (or loading) bundle and the conversation with it.
#[wasm_bindgen]
pub struct WebSession {
    session: Session,
    on_event: Function,
    cache: Rc<dyn Cache>,
    /// Why nothing is kept on this device, if that is so.
    cache_fault: Option<String>,
    encoders: Encoders,
    /// Why what is taught could not be brought back or kept, if that is so.
    taught_fault: RefCell<Option<String>>,
    /// Taken out while it loads.
    loader: RefCell<Option<Loader<WeightSink>>>,
    loading: Rc<Stop>,
    is_loading: Cell<bool>,
    /// Commands under way.
    running: RefCell<BTreeMap<u32, Rc<Stop>>>,
}

#[wasm_bindgen]
impl WebSession {
    /// Reads the manifest at `bundle_url`. `on_event` is called with every event of every command, each with the
    /// command's number as `id`.
    ///
    /// # Errors
    /// `BuboError` if there is no such bundle or device.
    pub async fn open(bundle_url: String, options: JsValue, on_event: Function) -> Result<WebSession, JsValue> {
        console_errors();
        Self::opened(&bundle_url, options, on_event).await.map_err(|error| to_js(&error))
    }

    /// Why nothing is kept on this device; undefined where the bundle is.
    #[wasm_bindgen(getter, js_name = cacheFault)]
    pub fn cache_fault(&self) -> Option<String> {
        self.cache_fault.clone()
    }

    /// Loads all parts, in the bundle's order.
    ///
    /// # Errors
    /// `BuboError`; asked again, it goes on where it stopped.
    pub async fn load(&self, id: u32) -> Result<(), JsValue> {
        let Some(mut loader) = self.loader.take() else {
            return Err(to_js(&Error::Input("the bundle is being loaded already; wait for that".into())));
        };
        self.running.borrow_mut().insert(id, Rc::clone(&self.loading));
        self.is_loading.set(true);
        let loaded = self.session.load(&mut loader, &|event| self.tell(id, &event)).await;
        self.is_loading.set(false);
        self.loader.replace(Some(loader));
        self.ended(id, loaded)
    }

    /// Shows a picture: `4 · width · height` bytes, opaque.
    ///
    /// # Errors
    /// `BuboError`.
    #[wasm_bindgen(js_name = addImage)]
    pub async fn add_image(&self, width: usize, height: usize, rgba: Vec<u8>, id: u32) -> Result<(), JsValue> {
        let host = self.begun(id);
        let result = async {
            let image = opaque(width, height, rgba)?;
            self.wait_until(|| self.session.can_see(), &host).await?;
            self.session.add_image(&image, &host, &|event| self.tell(id, &event)).await
        };
        self.ended(id, result.await)
    }

    /// Plays a sound: one channel, samples in −1..1.
    ///
    /// # Errors
    /// `BuboError`.
    #[wasm_bindgen(js_name = addAudio)]
    pub async fn add_audio(&self, samples: Vec<f32>, sample_rate_hz: u32, id: u32) -> Result<(), JsValue> {
        let host = self.begun(id);
        let result = async {
            let sound = Waveform::new(samples, sample_rate_hz)?;
            self.wait_until(|| self.session.can_hear(), &host).await?;
            self.session.add_audio(&sound, &host, &|event| self.tell(id, &event)).await
        };
        self.ended(id, result.await)
    }

    /// Answers a question; `options` as in the package's `GenerationOptions`, in snake case.
    ///
    /// # Errors
    /// `BuboError`.
    pub async fn ask(&self, question: String, options: JsValue, id: u32) -> Result<(), JsValue> {
        let host = self.begun(id);
        let result = async {
            let options: AskOptions = parsed(options)?;
            self.wait_until(|| self.session.can_answer(), &host).await?;
            self.session.ask(&question, &options, &host, &|event| self.tell(id, &event)).await
        };
        self.ended(id, result.await)
    }

    /// Teaches one example, as the package's `TeachOptions` in snake case. Gives what is taught then.
    ///
    /// # Errors
    /// `BuboError`.
    pub async fn teach(&self, teaching: JsValue, id: u32) -> Result<JsValue, JsValue> {
        let host = self.begun(id);
        let result = async {
            let teaching: Teaching = parsed(teaching)?;
            self.session.teach(&teaching, &host, &|event| self.tell(id, &event)).await
        };
        self.changed(id, result.await).await
    }

    /// Adds the classes of a document. Gives what is taught then.
    ///
    /// # Errors
    /// `BuboError`.
    #[wasm_bindgen(js_name = importTaught)]
    pub async fn import_taught(&self, json: Vec<u8>, id: u32) -> Result<JsValue, JsValue> {
        let host = self.begun(id);
        let result = self.session.import_taught(&json, &host, &|event| self.tell(id, &event)).await;
        self.changed(id, result).await
    }

    /// Forgets one name, or all. Gives what is taught then.
    ///
    /// # Errors
    /// `BuboError`.
    #[wasm_bindgen(js_name = forgetTaught)]
    pub async fn forget_taught(&self, name: Option<String>, id: u32) -> Result<JsValue, JsValue> {
        let host = self.begun(id);
        let result = self.session.forget_taught(name.as_deref(), &host, &|event| self.tell(id, &event)).await;
        self.changed(id, result).await
    }

    /// What is taught, whether more can be, and why it is not kept, if that is so.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn taught(&self) -> Result<JsValue, JsValue> {
        #[derive(Serialize)]
        struct Shown {
            #[serde(flatten)]
            list: TaughtList,
            fault: Option<String>,
        }
        let fault = self.taught_fault.borrow().clone().or_else(|| self.cache_fault.clone());
        let json = serde_wasm_bindgen::Serializer::json_compatible();
        Shown { list: self.session.taught(), fault }.serialize(&json).map_err(JsValue::from)
    }

    /// What is taught as a document.
    ///
    /// # Errors
    /// None that a caller could cause.
    #[wasm_bindgen(js_name = exportTaught)]
    pub fn export_taught(&self) -> Result<String, JsValue> {
        self.session.export_taught(None).map_err(|error| to_js(&error))
    }

    /// Runs stages alone, once everything is loaded: for checks of speed, memory and engines. Picture and sound as for
    /// [`add_image`](Self::add_image) and [`add_audio`](Self::add_audio), or none; `options` as [`StageOptions`]; an event
    /// for each stage.
    ///
    /// # Errors
    /// `BuboError`.
    #[wasm_bindgen(js_name = runStages)]
    pub async fn run_stages(
        &self,
        options: JsValue,
        width: usize,
        height: usize,
        rgba: Option<Vec<u8>>,
        samples: Option<Vec<f32>>,
        sample_rate_hz: u32,
        id: u32,
    ) -> Result<(), JsValue> {
        let host = self.begun(id);
        let result = async {
            let options: StageOptions = parsed(options)?;
            let image = rgba.map(|rgba| opaque(width, height, rgba)).transpose()?;
            let sound = samples.map(|samples| Waveform::new(samples, sample_rate_hz)).transpose()?;
            self.wait_until(|| false, &host).await?;
            let report = |report: &StageReport| self.tell(id, report);
            self.session.run_stages(&options, image.as_ref(), sound.as_ref(), &host, &report).await
        };
        self.ended(id, result.await)
    }

    /// What the GPU did so far and what it holds; null on the processor.
    ///
    /// # Errors
    /// None that a caller could cause.
    #[wasm_bindgen(js_name = gpuCounters)]
    pub fn gpu_counters(&self) -> Result<JsValue, JsValue> {
        let json = serde_wasm_bindgen::Serializer::json_compatible();
        self.session.counters().serialize(&json).map_err(JsValue::from)
    }

    /// Every kernel on small inputs against the CPU engine: what failed as `{case, reason}`; null on the processor.
    ///
    /// # Errors
    /// `BuboError`.
    #[wasm_bindgen(js_name = gpuSelfTest)]
    pub async fn gpu_self_test(&self) -> Result<JsValue, JsValue> {
        let failures = self.session.self_test().await.map_err(|error| to_js(&error))?;
        failures.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).map_err(JsValue::from)
    }

    /// Forgets the conversation, its picture and its sound.
    pub fn clear(&self) {
        self.session.clear();
    }

    /// Takes the picture out of the conversation.
    #[wasm_bindgen(js_name = removeImage)]
    pub fn remove_image(&self) {
        self.session.remove_image();
    }

    /// Takes the sound out of the conversation.
    #[wasm_bindgen(js_name = removeAudio)]
    pub fn remove_audio(&self) {
        self.session.remove_audio();
    }

    /// Asks the command `id` to stop; one that has ended already is no error.
    pub fn cancel(&self, id: u32) {
        if let Some(stop) = self.running.borrow().get(&id) {
            stop.ask();
        }
    }
}

/// The GPU, once it has shown that it computes what the processor does: some cards, drivers and browsers do not, and say
/// nothing.
async fn tested_gpu() -> Result<Gpu> {
    let gpu = Gpu::open().await?;
    match gpu.self_test().await?.first() {
        None => Ok(gpu),
        Some(KernelFailure { case, reason }) => Err(Error::NoWebGpu(format!(
            "the graphics card, its driver or this browser computes {case} wrongly ({reason}); use the device \"wasm\""
        ))),
    }
}

impl WebSession {
    async fn opened(bundle_url: &str, options: JsValue, on_event: Function) -> Result<Self> {
        let OpenOptions { device } = parsed(options)?;
        let device = if device == "webgpu" { Device::Gpu(tested_gpu().await?) } else { Device::Cpu };
        let (cache, cache_fault): (Rc<dyn Cache>, _) = match OpfsCache::open().await {
            Ok(cache) => (Rc::new(cache), None),
            Err(error) => (Rc::new(NoCache), Some(error.to_string())),
        };
        let loading = Rc::new(Stop::default());
        let source = Rc::new(HttpSource::new(bundle_url));
        source.set_stop(Rc::clone(&loading));
        let host = Rc::new(WorkerHost::new(Rc::clone(&loading)));
        let weights_device = device.clone();
        let make_sink = move || WeightSink::new(weights_device.clone());
        let loader = Loader::open(source, Rc::clone(&cache), Rc::<WorkerHost>::clone(&host), make_sink).await?;
        let session = Session::new(device);
        let encoders = Encoders::of(loader.manifest());
        session.set_encoders(loader.manifest());
        let restored = taught::restore(cache.as_ref(), &encoders, &session, host.as_ref()).await;
        Ok(Self {
            session,
            on_event,
            cache,
            cache_fault,
            encoders,
            taught_fault: RefCell::new(restored.err().map(|error| error.to_string())),
            loader: RefCell::new(Some(loader)),
            loading,
            is_loading: Cell::new(false),
            running: RefCell::default(),
        })
    }

    /// Waits as long as loading may still bring what is needed; where it does not, the session says what is missing.
    async fn wait_until(&self, ready: impl Fn() -> bool, host: &WorkerHost) -> Result<()> {
        while !ready() && self.is_loading.get() {
            host.sleep_ms(PART_WAIT_MS).await?;
        }
        Ok(())
    }

    /// A host for the command `id`, which can be stopped by its number.
    fn begun(&self, id: u32) -> WorkerHost {
        let stop = Rc::new(Stop::default());
        self.running.borrow_mut().insert(id, Rc::clone(&stop));
        WorkerHost::new(stop)
    }

    fn ended<T>(&self, id: u32, result: Result<T>) -> Result<(), JsValue> {
        self.running.borrow_mut().remove(&id);
        result.map(|_| ()).map_err(|error| to_js(&error))
    }

    /// Ends a command that changed what is taught: keeps that, and gives it.
    async fn changed(&self, id: u32, result: Result<TaughtList>) -> Result<JsValue, JsValue> {
        self.ended(id, result)?;
        let kept = taught::keep(self.cache.as_ref(), &self.encoders, &self.session).await;
        self.taught_fault.replace(kept.err().map(|error| error.to_string()));
        self.taught()
    }

    fn tell(&self, id: u32, event: &impl Serialize) {
        let json = serde_wasm_bindgen::Serializer::json_compatible();
        let Ok(told) = event.serialize(&json) else { return };
        // Setting a property of a fresh object cannot fail, and what the receiver throws is its own affair.
        let _ = Reflect::set(&told, &"id".into(), &id.into());
        let _ = self.on_event.call1(&JsValue::NULL, &told);
    }
}

/// A picture of RGBA bytes, whose opacity is not looked at.
fn opaque(width: usize, height: usize, rgba: Vec<u8>) -> Result<RgbImage> {
    let pixels = rgba.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    drop(rgba);
    RgbImage::new(width, height, pixels)
}

fn parsed<T: serde::de::DeserializeOwned>(options: JsValue) -> Result<T> {
    serde_wasm_bindgen::from_value(options).map_err(|error| Error::Input(format!("the options do not fit: {error}")))
}

/// Writes the words of a panic to the console; the trap that follows reaches the worker's `error` event.
fn console_errors() {
    std::panic::set_hook(Box::new(|panic| web_sys::console::error_1(&panic.to_string().into())));
}

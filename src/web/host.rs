//! The worker as a host: a clock, pauses in which messages are heard, and what a stopped command leaves to be ended.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use async_trait::async_trait;
use js_sys::{Function, Promise};
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, MessageChannel, MessagePort, WorkerGlobalScope};

use crate::error::{Error, Result};
use crate::host::Host;

/// A command works this long before it lets messages in: short enough for a stop to feel immediate, long enough for the
/// pauses to cost nothing.
const WORK_MS: f64 = 15.0;

/// Whether a command was stopped, and the transfers that end with it.
#[derive(Default)]
pub struct Stop {
    asked: Cell<bool>,
    transfers: RefCell<Vec<Weak<Transfer>>>,
}

impl Stop {
    /// Asks the command to stop: transfers break off now, the rest at its next breath.
    pub fn ask(&self) {
        self.asked.set(true);
        for transfer in self.transfers.borrow_mut().drain(..) {
            if let Some(transfer) = transfer.upgrade() {
                transfer.controller.abort();
            }
        }
    }

    /// An error if the command was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.asked.get() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Begins a transfer that ends with the command, or with the last copy of what is returned.
    pub fn transfer(&self) -> std::result::Result<Rc<Transfer>, JsValue> {
        let transfer = Rc::new(Transfer { controller: AbortController::new()? });
        let mut transfers = self.transfers.borrow_mut();
        transfers.retain(|transfer| transfer.strong_count() > 0);
        transfers.push(Rc::downgrade(&transfer));
        Ok(transfer)
    }
}

/// A transfer under way.
pub struct Transfer {
    /// Its `signal` belongs to the request.
    pub controller: AbortController,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // Does nothing where the transfer has come to its end.
        self.controller.abort();
    }
}

/// The host of one command.
pub struct WorkerHost {
    stop: Rc<Stop>,
    breathed_at_ms: Cell<f64>,
}

impl WorkerHost {
    /// The host of the command that `stop` belongs to.
    pub fn new(stop: Rc<Stop>) -> Self {
        Self { stop, breathed_at_ms: Cell::new(now_ms()) }
    }
}

#[async_trait(?Send)]
impl Host for WorkerHost {
    async fn breathe(&self) -> Result<()> {
        if now_ms() - self.breathed_at_ms.get() >= WORK_MS {
            next_task().await;
            self.breathed_at_ms.set(now_ms());
        }
        self.stop.check()
    }

    async fn sleep_ms(&self, duration_ms: u32) -> Result<()> {
        // In pieces, so that a stop is heard within one of them.
        let mut left_ms = duration_ms;
        while left_ms > 0 {
            self.stop.check()?;
            let piece_ms = left_ms.min(100);
            timeout(piece_ms).await;
            left_ms -= piece_ms;
        }
        self.breathed_at_ms.set(now_ms());
        self.stop.check()
    }

    fn now_ms(&self) -> f64 {
        now_ms()
    }
}

/// The worker's global scope; this code runs nowhere else.
pub fn scope() -> WorkerGlobalScope {
    js_sys::global().unchecked_into()
}

fn now_ms() -> f64 {
    // Without a monotonic clock, the calendar's is better than none.
    scope().performance().map_or_else(js_sys::Date::now, |performance| performance.now())
}

/// Waits `duration_ms` milliseconds.
pub async fn timeout(duration_ms: u32) {
    let started = Promise::new(&mut |resolve, _| {
        let duration_ms = i32::try_from(duration_ms).unwrap_or(i32::MAX);
        if scope().set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, duration_ms).is_err() {
            let _ = resolve.call0(&JsValue::NULL);
        }
    });
    let _ = JsFuture::from(started).await;
}

/// Lets every message that has come be heard. Timeouts would do, but browsers make nested ones wait four milliseconds.
async fn next_task() {
    thread_local! {
        static BELL: Option<Bell> = Bell::new();
    }
    let rung = Promise::new(&mut |resolve, _| {
        BELL.with(|bell| match bell {
            Some(bell) => bell.ring(resolve),
            None => {
                let _ = scope().set_timeout_with_callback(&resolve);
            }
        });
    });
    let _ = JsFuture::from(rung).await;
}

/// A message channel to itself: each message wakes one waiter, after those messages that came before it.
struct Bell {
    port: MessagePort,
    waiting: Rc<RefCell<VecDeque<Function>>>,
}

impl Bell {
    fn new() -> Option<Self> {
        let channel = MessageChannel::new().ok()?;
        let waiting = Rc::new(RefCell::new(VecDeque::<Function>::new()));
        let heard = Rc::clone(&waiting);
        let on_message = Closure::<dyn FnMut()>::new(move || {
            let resolve = heard.borrow_mut().pop_front();
            if let Some(resolve) = resolve {
                let _ = resolve.call0(&JsValue::NULL);
            }
        });
        // The bell lives as long as the worker.
        channel.port1().set_onmessage(Some(on_message.into_js_value().unchecked_ref()));
        Some(Self { port: channel.port2(), waiting })
    }

    fn ring(&self, resolve: Function) {
        self.waiting.borrow_mut().push_back(resolve);
        let _ = self.port.post_message(&JsValue::NULL);
    }
}

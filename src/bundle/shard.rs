//! A shard as it streams by: its header is checked against the manifest, its bytes go to the tensors that they belong to.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde::Deserialize;
use serde_json::Value;

use super::format::{Section, SectionForm};
use super::manifest::{MAX_SHARD_HEADER_BYTES, Manifest, TensorEntry};
use super::sink::Sink;
use super::stream::Consumer;
use crate::error::{Error, Result};

/// One array in a shard's header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct HeaderEntry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// Reads a safetensors header (without its length); offsets count from the end of the header.
pub(super) fn parse_header(text: &[u8]) -> Result<BTreeMap<String, HeaderEntry>, String> {
    let value: BTreeMap<String, Value> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let arrays = value.into_iter().filter(|(name, _)| name != "__metadata__");
    arrays
        .map(|(name, value)| match HeaderEntry::deserialize(value) {
            Ok(entry) => Ok((name, entry)),
            Err(error) => Err(format!("{name}: {error}")),
        })
        .collect()
}

/// Where one section of one tensor lies in the shard's file.
#[derive(Debug)]
struct Span<'a> {
    tensor: &'a TensorEntry,
    section: Section,
    /// First byte in the file, and the byte behind the last one.
    at: [u64; 2],
    /// Where these bytes belong in the section of the whole tensor.
    section_at: usize,
    /// Whether the tensor's bytes begin and end with this span.
    first: bool,
    last: bool,
}

/// Takes a shard's bytes in order and gives them to the sinks of the parts that want them.
pub(super) struct ShardReader<'a, S> {
    manifest: &'a Manifest,
    shard: usize,
    /// By the part's index; parts that are not here do not want their tensors.
    sinks: BTreeMap<usize, &'a mut S>,
    header: Vec<u8>,
    spans: Option<Vec<Span<'a>>>,
    next_span: usize,
    position: u64,
}

impl<'a, S: Sink> ShardReader<'a, S> {
    pub(super) fn new(manifest: &'a Manifest, shard: usize, sinks: BTreeMap<usize, &'a mut S>) -> Self {
        Self { manifest, shard, sinks, header: Vec::new(), spans: None, next_span: 0, position: 0 }
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(&self.manifest.shards[self.shard].file, reason)
    }

    /// Collects the header, of which the first 8 bytes are its length. Returns what is behind it in `bytes`.
    fn take_header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8]> {
        let mut rest = bytes;
        loop {
            let wanted = match self.header.first_chunk::<8>() {
                None => 8,
                Some(length) => {
                    let length = u64::from_le_bytes(*length);
                    if length > MAX_SHARD_HEADER_BYTES.min(self.manifest.shards[self.shard].bytes) {
                        return Err(self.damaged(format!("a header of {length} bytes is too long")));
                    }
                    // Fits: it was just compared with 16 MiB.
                    8 + length as usize
                }
            };
            let (head, behind) = rest.split_at(rest.len().min(wanted - self.header.len()));
            self.header.extend_from_slice(head);
            rest = behind;
            if self.header.len() < wanted {
                return Ok(rest);
            }
            if wanted > 8 || self.header.len() > 8 || self.header.first_chunk() == Some(&[0; 8]) {
                self.spans = Some(self.plan()?);
                self.position = wanted as u64;
                return Ok(rest);
            }
        }
    }

    /// Compares the header with the manifest, and puts all wanted sections in the order of the file.
    fn plan(&self) -> Result<Vec<Span<'a>>> {
        let header = parse_header(&self.header[8..]).map_err(|reason| self.damaged(format!("header: {reason}")))?;
        let mut spans = Vec::new();
        for tensor in &self.manifest.tensors {
            for piece in tensor.pieces.iter().filter(|piece| piece.shard == self.shard) {
                let forms = tensor.format.sections(&piece.shape(&tensor.shape));
                let forms = forms.ok_or_else(|| self.damaged(format!("{} has an impossible shape", tensor.name)))?;
                let count = forms.len();
                let mut at = piece.at[0];
                for (i, form) in forms.into_iter().enumerate() {
                    let end = at + form.bytes as u64;
                    let name = tensor.format.section_name(&tensor.piece_name(piece), form.section);
                    self.check_section(&header, &name, &form, [at, end])?;
                    let row_count = (piece.rows[1] - piece.rows[0]).max(1);
                    let section_at = piece.rows[0] * (form.bytes / row_count);
                    let first = i == 0 && piece.rows[0] == 0;
                    let last = i + 1 == count && tensor.pieces.last() == Some(piece);
                    spans.push(Span { tensor, section: form.section, at: [at, end], section_at, first, last });
                    at = end;
                }
            }
        }
        // Stable: sections without bytes stay before the tensor that follows them.
        spans.sort_by_key(|span| span.at);
        Ok(spans)
    }

    fn check_section(
        &self,
        header: &BTreeMap<String, HeaderEntry>,
        name: &str,
        form: &SectionForm,
        at: [u64; 2],
    ) -> Result<()> {
        let data_start = self.header.len() as u64;
        let expected = HeaderEntry {
            dtype: form.dtype,
            shape: form.shape.clone(),
            data_offsets: at.map(|at| at.wrapping_sub(data_start)),
        };
        match header.get(name) {
            Some(found) if *found == expected && at[0] >= data_start => Ok(()),
            Some(found) => Err(self.damaged(format!("{name}: the manifest says {expected:?}, the shard {found:?}"))),
            None => Err(self.damaged(format!("the shard lacks {name}, which the manifest names"))),
        }
    }

    /// Gives bytes behind the header to the tensors that they belong to.
    fn take_data(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.position + bytes.len() as u64;
        let Some(spans) = &self.spans else { return Ok(()) };
        while let Some(span) = spans.get(self.next_span).filter(|span| span.at[0] < end || span.at[1] <= end) {
            let from = span.at[0].max(self.position);
            let to = span.at[1].min(end).max(from);
            if let Some(sink) = self.sinks.get_mut(&span.tensor.part) {
                if span.first && from == span.at[0] {
                    sink.begin(&span.tensor.name, span.tensor.format, &span.tensor.shape)?;
                }
                let inside = &bytes[(from - self.position) as usize..(to - self.position) as usize];
                let at = span.section_at + (from - span.at[0]) as usize;
                if !inside.is_empty() {
                    sink.bytes(&span.tensor.name, span.section, at, inside)?;
                }
                // The last piece of a tensor waits for the shard's hash: the other shards' pieces are not sent again.
                if span.last && to == span.at[1] && span.tensor.pieces.len() == 1 {
                    sink.end(&span.tensor.name)?;
                }
            }
            if to < span.at[1] {
                break;
            }
            self.next_span += 1;
        }
        self.position = end;
        Ok(())
    }
}

impl<S: Sink> Consumer for ShardReader<'_, S> {
    fn restart(&mut self) -> Result<()> {
        self.header.clear();
        self.spans = None;
        self.next_span = 0;
        self.position = 0;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let rest = if self.spans.is_none() { self.take_header(bytes)? } else { bytes };
        self.take_data(rest)
    }

    fn finish(&mut self) -> Result<()> {
        let Some(spans) = &self.spans else { return Err(self.damaged("it ends before its header does")) };
        if self.next_span < spans.len() {
            return Err(self.damaged("it ends before its last tensor does"));
        }
        for span in spans.iter().filter(|span| span.last && span.tensor.pieces.len() > 1) {
            if let Some(sink) = self.sinks.get_mut(&span.tensor.part) {
                sink.end(&span.tensor.name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_reads_what_safetensors_writes() {
        let data = [1.0f32, 2.0].map(f32::to_le_bytes).concat();
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &data).expect("the sizes fit");
        let bytes = safetensors::serialize([("x", view)], None).expect("it can be written");
        let length = u64::from_le_bytes(*bytes.first_chunk().expect("there is a header")) as usize;
        let header = parse_header(&bytes[8..8 + length]).expect("it is a header");
        let expected = HeaderEntry { dtype: Dtype::F32, shape: vec![2], data_offsets: [0, 8] };
        assert_eq!(header.get("x"), Some(&expected));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_as_header_give_an_answer(bytes: Vec<u8>) {
            let _ = parse_header(&bytes);
        }

        #[test]
        fn any_numbers_in_a_header_give_an_answer(shape: Vec<u64>, begin: i64, end: u64) {
            let text = format!(r#"{{"x":{{"dtype":"F16","shape":{shape:?},"data_offsets":[{begin},{end}]}}}}"#);
            let parsed = parse_header(text.as_bytes());
            proptest::prop_assert_eq!(parsed.is_ok(), begin >= 0);
        }
    }
}

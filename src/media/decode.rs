//! Picture and sound files to pixels and samples, natively; in a browser, the page decodes.
//!
//! Every refusal is an [`Error::Input`] whose sentence says what to give instead.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as SoundError;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::{RgbImage, Waveform};
use crate::error::{Error, Result};

/// Pictures with more pixels are refused before they are decoded: outlines of a dozen things must fit into memory.
const MOST_PIXELS: u64 = 50_000_000;
/// Memory that decoding one picture may take.
const MOST_BYTES: u64 = 1 << 30;
/// Longest sound that is listened to.
const LONGEST_S: u64 = 600;
/// Files beyond this are refused unread.
const MOST_FILE_BYTES: usize = 1 << 30;

/// Decodes a JPEG, PNG, WebP, GIF (its first frame) or BMP file: turned upright as its EXIF data say, grey and CMYK made
/// RGB, 16 bits rounded to 8, whatever is transparent laid over white.
///
/// # Errors
/// [`Error::Input`] if the file is no such picture, is damaged, or has more than 50 million pixels.
pub fn decode_image(file: &[u8]) -> Result<RgbImage> {
    let other = "choose a JPEG, PNG, WebP, GIF or BMP file";
    if file.is_empty() {
        return Err(Error::Input(format!("the picture's file is empty; {other}")));
    }
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|error| Error::Input(format!("the picture could not be read ({error}); {other}")))?;
    if reader.format().is_none() {
        return Err(Error::Input(format!("the file is no picture of a known kind; {other}")));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits);
    let damaged = |error: &ImageError| match error {
        ImageError::Unsupported(error) => {
            Error::Input(format!("this kind of picture cannot be read ({error}); {other}"))
        }
        ImageError::Limits(_) => Error::Input("the picture is too large to decode; give a smaller one".into()),
        error => Error::Input(format!("the picture's file is damaged ({error}); get it again or choose another")),
    };
    let mut decoder = reader.into_decoder().map_err(|error| damaged(&error))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return Err(Error::Input(format!(
            "the picture has {width} × {height} pixels, more than {} million; make it smaller and try again",
            MOST_PIXELS / 1_000_000
        )));
    }
    // Some files say nothing about their orientation, or say it wrongly: then they are taken as they are.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| damaged(&error))?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    RgbImage::new(width, height, over_white(picture))
}

fn over_white(picture: DynamicImage) -> Vec<u8> {
    if !picture.color().has_alpha() {
        return picture.into_rgb8().into_raw();
    }
    let rgba = picture.into_rgba8().into_raw();
    let blend = |[r, g, b, alpha]: &[u8; 4]| {
        let alpha = u32::from(*alpha);
        [r, g, b].map(|x| ((u32::from(*x) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
    };
    rgba.as_chunks::<4>().0.iter().flat_map(blend).collect()
}

/// Decodes a WAV, FLAC, Ogg Vorbis, MP3 or M4A (AAC) file and mixes its channels to one. `name` is the file's name, if
/// known; its ending helps to tell what it is.
///
/// # Errors
/// [`Error::Input`] if the file is no such sound, is damaged, empty, or longer than ten minutes.
pub fn decode_sound(file: Vec<u8>, name: Option<&str>) -> Result<Waveform> {
    let other = "choose a WAV, FLAC, OGG, MP3 or M4A file";
    if file.is_empty() {
        return Err(Error::Input(format!("the sound's file is empty; {other}")));
    }
    if file.len() > MOST_FILE_BYTES {
        return Err(Error::Input(format!("the sound's file is larger than 1 GB; {}", shorter())));
    }
    let mut hint = Hint::new();
    if let Some((_, ending)) = name.and_then(|name| name.rsplit_once('.')) {
        hint.with_extension(ending);
    }
    let unknown = |error: &dyn std::fmt::Display| {
        Error::Input(format!("the file is no sound of a known kind ({error}); {other}"))
    };
    let stream = MediaSourceStream::new(Box::new(Cursor::new(file)), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
        .map_err(|error| unknown(&error))?;
    let track = format.default_track(TrackType::Audio).ok_or_else(|| unknown(&"it holds no sound track"))?;
    let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio());
    let parameters = parameters.ok_or_else(|| unknown(&"its sound track is of an unknown kind"))?;
    if let (Some(frames), Some(rate_hz)) = (track.num_frames, parameters.sample_rate) {
        check_length(frames, rate_hz)?;
    }
    let id = track.id;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(|error| unknown(&error))?;
    let (samples, rate_hz) = mixed_samples(format.as_mut(), decoder.as_mut(), id)?;
    if samples.is_empty() {
        return Err(Error::Input("the sound has no samples; choose one that lasts at least a moment".into()));
    }
    Waveform::new(samples, rate_hz)
}

fn shorter() -> String {
    format!("at most {} minutes are listened to: cut out the part that matters", LONGEST_S / 60)
}

fn check_length(frames: u64, rate_hz: u32) -> Result<()> {
    let seconds = frames / u64::from(rate_hz.max(1));
    if seconds <= LONGEST_S {
        return Ok(());
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    Err(Error::Input(format!("the sound lasts {hours} h {minutes} min; {}", shorter())))
}

/// All samples of a track, the mean of its channels, and their rate. Damaged packets are passed over.
fn mixed_samples(format: &mut dyn FormatReader, decoder: &mut dyn AudioDecoder, track: u32) -> Result<(Vec<f32>, u32)> {
    let (mut mixed, mut interleaved, mut rate_hz, mut damage) = (Vec::new(), Vec::new(), 0, None);
    loop {
        let packet = match format.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) | Err(SoundError::ResetRequired) => break,
            // Cut files end like this: what came before is kept.
            Err(error) => {
                damage = Some(error);
                break;
            }
        };
        if packet.track_id != track {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(decoded) => {
                let (rate, channels) = (decoded.spec().rate(), decoded.num_planes().max(1));
                if rate_hz != 0 && rate != rate_hz {
                    break;
                }
                rate_hz = rate;
                interleaved.clear();
                decoded.copy_to_vec_interleaved::<f32>(&mut interleaved);
                let frames = interleaved.chunks_exact(channels);
                mixed.extend(frames.map(|frame| frame.iter().sum::<f32>() / channels as f32));
                check_length(mixed.len() as u64, rate_hz)?;
            }
            Err(SoundError::DecodeError(reason)) => damage = Some(SoundError::DecodeError(reason)),
            Err(SoundError::IoError(error)) => damage = Some(SoundError::IoError(error)),
            Err(error) => {
                damage = Some(error);
                break;
            }
        }
    }
    match damage {
        Some(error) if mixed.is_empty() => {
            Err(Error::Input(format!("the sound's file is damaged ({error}); get it again or choose another")))
        }
        _ => Ok((mixed, rate_hz)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use image::{ExtendedColorType, ImageEncoder, ImageFormat};

    use super::*;

    fn png(width: u32, height: u32, kind: ExtendedColorType, bytes: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        image::codecs::png::PngEncoder::new(&mut file)
            .write_image(bytes, width, height, kind)
            .expect("the encoder takes these bytes");
        file
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.expect_err("it must be refused");
        assert_eq!(error.code(), "input");
        error.to_string()
    }

    #[test]
    fn brings_every_kind_of_pixel_to_rgb() -> Result<()> {
        let cases: [(ExtendedColorType, &[u8], [u8; 3]); 6] = [
            (ExtendedColorType::L8, &[77], [77; 3]),
            (ExtendedColorType::La8, &[0, 0], [255; 3]),
            (ExtendedColorType::Rgb8, &[1, 2, 3], [1, 2, 3]),
            (ExtendedColorType::Rgba8, &[200, 100, 0, 51], [244, 224, 204]),
            (ExtendedColorType::L16, &[0xff, 0xff], [255; 3]),
            (ExtendedColorType::Rgb16, &[0, 0, 0x80, 0x80, 0xff, 0xff], [0, 128, 255]),
        ];
        for (kind, bytes, expected) in cases {
            let image = decode_image(&png(1, 1, kind, bytes))?;
            assert_eq!((image.width(), image.height(), image.pixel(0, 0)), (1, 1, expected), "{kind:?}");
        }
        Ok(())
    }

    #[test]
    fn obeys_the_orientation() -> Result<()> {
        let mut jpeg = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 100);
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        encoder.set_exif_metadata(exif.to_vec()).expect("JPEG can hold EXIF data");
        // Left half black, right half white; orientation 6 turns it by 90° clockwise.
        let bytes: Vec<u8> = (0..16 * 8).flat_map(|at| [if at % 16 < 8 { 0 } else { 255 }; 3]).collect();
        encoder.write_image(&bytes, 16, 8, ExtendedColorType::Rgb8).expect("the encoder takes these bytes");
        let image = decode_image(&jpeg)?;
        assert_eq!((image.width(), image.height()), (8, 16));
        assert!(image.pixel(4, 2)[0] < 30 && image.pixel(4, 13)[0] > 225);
        Ok(())
    }

    #[test]
    fn refuses_bad_pictures_in_words() {
        assert!(message(decode_image(b"")).contains("empty"));
        assert!(message(decode_image(b"<!doctype html><p>hello")).contains("choose"));
        let good = png(8, 8, ExtendedColorType::Rgb8, &[9; 192]);
        assert!(message(decode_image(&good[..good.len() / 2])).contains("damaged"));
        // Only the header of a 12000 × 9000 PNG: it is refused before anything is allocated.
        let huge = png(1, 1, ExtendedColorType::L8, &[0]);
        let mut header = huge.clone();
        header[16..20].copy_from_slice(&12_000u32.to_be_bytes());
        header[20..24].copy_from_slice(&9_000u32.to_be_bytes());
        let checksum = png_checksum(&header[12..29]);
        header[29..33].copy_from_slice(&checksum.to_be_bytes());
        let refused = message(decode_image(&header));
        assert!(refused.contains("12000 × 9000") && refused.contains("smaller"), "{refused}");
    }

    fn png_checksum(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }

    #[test]
    fn takes_the_first_frame_of_an_animation() -> Result<()> {
        let mut gif = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
        for grey in [40, 200] {
            let frame = image::RgbaImage::from_pixel(4, 3, image::Rgba([grey, grey, grey, 255]));
            encoder.encode_frame(image::Frame::new(frame)).expect("the encoder takes this frame");
        }
        drop(encoder);
        assert!(ImageFormat::Gif == image::guess_format(&gif).expect("it is a GIF"));
        let image = decode_image(&gif)?;
        assert!(image.pixel(1, 1)[0].abs_diff(40) < 4, "{:?}", image.pixel(1, 1));
        Ok(())
    }

    /// A WAV file of 16-bit samples whose header says `claimed` bytes of them.
    fn wav(channels: u16, rate_hz: u32, samples: &[i16], claimed: u32) -> Vec<u8> {
        let mut file = b"RIFF".to_vec();
        file.extend((claimed.saturating_add(36)).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
        file.extend(channels.to_le_bytes());
        file.extend(rate_hz.to_le_bytes());
        file.extend((rate_hz * u32::from(channels) * 2).to_le_bytes());
        file.extend((channels * 2).to_le_bytes());
        file.extend(b"\x10\0data");
        file.extend(claimed.to_le_bytes());
        samples.iter().for_each(|sample| file.write_all(&sample.to_le_bytes()).expect("memory takes bytes"));
        file
    }

    #[test]
    fn mixes_channels() -> Result<()> {
        let sound = decode_sound(wav(2, 8_000, &[16_384, 0, -32_768, -32_768], 8), Some("a.wav"))?;
        assert_eq!((sound.sample_rate_hz(), sound.samples()), (8_000, &[0.25, -1.0][..]));
        Ok(())
    }

    #[test]
    fn refuses_bad_sounds_in_words() {
        assert!(message(decode_sound(vec![], None)).contains("empty"));
        assert!(message(decode_sound(b"<!doctype html><p>hello".to_vec(), Some("a.mp3"))).contains("choose"));
        assert!(message(decode_sound(wav(1, 8_000, &[], 0), None)).contains("choose"));
        let three_hours = 3 * 3600 * 8_000 * 2;
        let refused = message(decode_sound(wav(1, 8_000, &[0; 16], three_hours), None));
        assert!(refused.contains("3 h 0 min") && refused.contains("10 minutes"), "{refused}");
    }
}

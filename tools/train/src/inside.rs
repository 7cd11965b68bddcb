//! Pictures and sounds that packages keep inside other files, taken out once, so that each is a file like any other.

use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use ttf_parser::{Face, RasterImageFormat};

/// Larger than any strike of a font: the largest is taken.
const PIXELS_PER_EM: u16 = u16::MAX;
/// Files that are pictures or sounds.
const MEDIA: [&str; 4] = ["webp", "png", "ogg", "wav"];

/// Writes the pictures of a font, each as `CODE_name_of_the_character.png`: `1f436_dog_face.png`.
///
/// Characters without a picture or without a Unicode name are left out, and so are sequences of several characters.
///
/// # Errors
/// `font` is no font or has no pictures, or a file cannot be written.
pub fn take_glyphs(font: &Path, folder: &Path) -> Result<()> {
    let bytes = std::fs::read(font).with_context(|| format!("could not read {}", font.display()))?;
    let face = Face::parse(&bytes, 0).with_context(|| format!("{} is no font", font.display()))?;
    std::fs::create_dir_all(folder)?;
    let mut written = 0;
    for character in ('\u{a0}'..=char::MAX).filter(|character| face.glyph_index(*character).is_some()) {
        let picture = face.glyph_index(character).and_then(|glyph| face.glyph_raster_image(glyph, PIXELS_PER_EM));
        let (Some(picture), Some(name)) = (picture, unicode_names2::name(character)) else { continue };
        if picture.format == RasterImageFormat::PNG {
            let name = name.to_string().to_lowercase().replace([' ', '-'], "_");
            std::fs::write(folder.join(format!("{:x}_{name}.png", u32::from(character))), picture.data)?;
            written += 1;
        }
    }
    ensure!(written > 0, "{} has no pictures in PNG", font.display());
    Ok(())
}

/// Writes the pictures and sounds of all Qt resource collections in a folder, each at its path in its collection.
///
/// # Errors
/// A collection is damaged, names a path outside of the folder, or a file cannot be written.
pub fn take_media(collections: &Path, folder: &Path) -> Result<()> {
    let entries =
        std::fs::read_dir(collections).with_context(|| format!("could not read {}", collections.display()))?;
    for entry in entries {
        let collection = entry?.path();
        if collection.extension().is_none_or(|extension| extension != "rcc") {
            continue;
        }
        take_media_of(&std::fs::read(&collection)?, folder).with_context(|| collection.display().to_string())?;
    }
    Ok(())
}

fn take_media_of(collection: &[u8], folder: &Path) -> Result<()> {
    for inner in qt_resources::paths(collection)? {
        let path = Path::new(&inner);
        if !path.extension().is_some_and(|extension| MEDIA.iter().any(|known| extension == *known)) {
            continue;
        }
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("{inner:?} lies outside of its folder");
        }
        let to = folder.join(path);
        std::fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        std::fs::write(to, qt_resources::read_file(collection, &inner)?)?;
    }
    Ok(())
}

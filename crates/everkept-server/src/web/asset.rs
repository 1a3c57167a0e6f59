//! The files that pages are made of, as they are sent: plain, and compressed once.
//!
//! Never read from a disk: they are in the program.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, io::Write, sync::LazyLock};

pub(super) struct Asset {
    pub media_type: &'static str,
    pub bytes: &'static [u8],
    pub zipped: Bytes,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => { &[$(($name, include_bytes!($name))),*] };
}

const FILES: &[(&str, &[u8])] = files![
    "style.css",
    "js/actions.js",
    "js/api.js",
    "js/chat.js",
    "js/composer.js",
    "js/conversation.js",
    "js/detail.js",
    "js/diff.js",
    "js/feed.js",
    "js/format.js",
    "js/highlight.js",
    "js/list.js",
    "js/main.js",
    "js/markdown.js",
    "js/message.js",
    "js/ops.js",
    "js/parts.js",
    "js/picker.js",
    "js/plot.js",
    "js/questions.js",
    "js/route.js",
    "js/toast.js",
    "vendor/directive.js",
    "vendor/directive-helpers.js",
    "vendor/directives/repeat.js",
    "vendor/highlight.js",
    "vendor/lit-html.js",
    "vendor/streaming-markdown.js",
    "icon.svg",
    "icon-192.png",
    "icon-512.png",
    "manifest.webmanifest",
    "sw.js",
];

/// Loaded when there is code to colour, and not before.
const LATER: &str = "vendor/highlight.js";

pub(super) static ASSETS: LazyLock<BTreeMap<&'static str, Asset>> = LazyLock::new(|| {
    let asset = |bytes: &'static [u8], name: &str| Asset { media_type: media_type(name), bytes, zipped: zipped(bytes) };
    FILES.iter().map(|(name, bytes)| (*name, asset(bytes, name))).collect()
});

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut digest = Sha256::new();
    for (name, bytes) in FILES {
        digest.update(name);
        digest.update(bytes);
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
});

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let scripts = FILES.iter().map(|(name, _)| *name).filter(|name| name.contains('/') && *name != LATER);
    let preload: Vec<_> = scripts.map(|name| format!("<link rel=\"modulepreload\" href=\"/assets/{{version}}/{name}\">")).collect();
    include_str!("page.html").replace("{preload}", &preload.join("\n")).replace("{version}", &VERSION)
});

/// Another one whenever a file is.
pub(super) fn version() -> &'static str {
    &VERSION
}

pub(super) fn page() -> &'static str {
    &PAGE
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

fn zipped(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to a Vec cannot fail").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_scripts_and_styles_are_less_than_150_kib_as_they_are_sent() {
        let sent = |name: &&str| name.ends_with(".js") || name.ends_with(".css");
        let bytes: usize = ASSETS.iter().filter(|(name, _)| sent(name)).map(|(_, asset)| asset.zipped.len()).sum();
        assert!(bytes < 150 * 1024, "{bytes} bytes");
    }

    #[test]
    fn every_module_that_is_imported_is_there() {
        for (name, bytes) in FILES.iter().filter(|(name, _)| name.starts_with("js/")) {
            let text = std::str::from_utf8(bytes).unwrap();
            for (_, path) in text.match_indices("from \"").map(|(at, word)| (at, &text[at + word.len()..])) {
                let path = &path[..path.find('"').unwrap()];
                let file = path.strip_prefix("../").map_or_else(|| format!("js/{}", &path[2..]), str::to_owned);
                assert!(ASSETS.contains_key(file.as_str()), "{name} imports {path}");
            }
        }
    }

    #[test]
    fn a6_no_script_of_ours_makes_markup_of_a_text() {
        let makers = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "unsafeHTML",
            "eval(",
            "new Function",
            "srcdoc",
            "setHTMLUnsafe",
            "DOMParser",
            "createContextualFragment",
            "unsafeSVG",
            "unsafeStatic",
        ];
        for (name, bytes) in FILES.iter().filter(|(name, _)| name.starts_with("js/") || *name == "sw.js") {
            let text = std::str::from_utf8(bytes).unwrap();
            for maker in makers {
                assert!(!text.contains(maker), "{name} has {maker}");
            }
        }
    }
}

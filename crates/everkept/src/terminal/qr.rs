//! A text as a code that cameras read.

use qrcode::{EcLevel, QrCode, render::unicode::Dense1x2};

/// Two modules to a character, black on white whatever the terminal's colours are; empty when the text is too long for one.
pub fn qr_code(text: &str) -> String {
    let code = QrCode::with_error_correction_level(text, EcLevel::L);
    let drawn = code.map(|code| code.render::<Dense1x2>().build());
    drawn.map(|drawn| drawn.lines().map(|line| format!("\x1b[30;107m{line}\x1b[0m\n")).collect()).unwrap_or_default()
}

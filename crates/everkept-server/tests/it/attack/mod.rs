//! Whoever may come, with whatever they may say, on every route there is.
//!
//! Never a list of routes of its own: the server's table is walked, and what is missing here fails.

mod house;
mod matrix;
mod objects;
mod roles;

/// A path of the table with something in the place of every parameter.
fn filled(path: &str) -> String {
    let segment = |segment: &str| match segment {
        "{ses}" => "ses_00000000000000000000000000000001".to_owned(),
        "{trn}" => "trn_00000000000000000000000000000001".to_owned(),
        "{qst}" => "qst_00000000000000000000000000000001".to_owned(),
        "{tok}" => "tok_00000000000000000000000000000001".to_owned(),
        "{seq}" => "1".to_owned(),
        "{id}" => format!("{:064}", 1),
        "{resource}" | "{thread}" => "name".to_owned(),
        "{version}" => "0".to_owned(),
        "{*file}" => "js/main.js".to_owned(),
        unknown if unknown.starts_with('{') => panic!("{unknown} is a new kind of parameter: say here what stands for it"),
        segment => segment.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

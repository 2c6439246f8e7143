//! Programs whose stdout and stderr are closed, full, or pipes that nobody reads: the work is done, and the exit status
//! says so.

use crate::common::biv;
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stream {
    Closed,
    Full,
    /// A pipe whose reader has gone.
    Broken,
    /// A pipe that is read.
    Read,
}

use Stream::{Broken, Closed, Full};

const CASES: [(Stream, Stream); 9] = [
    (Closed, Stream::Read),
    (Stream::Read, Closed),
    (Closed, Closed),
    (Full, Stream::Read),
    (Stream::Read, Full),
    (Full, Full),
    (Broken, Stream::Read),
    (Stream::Read, Broken),
    (Broken, Broken),
];

/// The exit status of `biv` with these arguments and streams, and what could be read of them.
fn status(arguments: &[&str], (out, err): (Stream, Stream)) -> (Option<i32>, String) {
    let program = biv(&[]);
    let close = |stream, text| if stream == Closed { text } else { "" };
    let script = format!("exec \"$0\" \"$@\" {} {}", close(out, ">&-"), close(err, "2>&-"));
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(program.get_program()).args(arguments).stdin(Stdio::null());
    let stdio = |stream| match stream {
        Closed => Stdio::null(),
        Full => File::options().write(true).open("/dev/full").unwrap().into(),
        Broken => std::io::pipe().unwrap().1.into(),
        Stream::Read => Stdio::piped(),
    };
    let mut child = command.stdout(stdio(out)).stderr(stdio(err)).spawn().unwrap();
    let mut said = String::new();
    let (out, err) = (child.stdout.take(), child.stderr.take());
    if let Some(mut out) = out {
        out.read_to_string(&mut said).unwrap();
    }
    if let Some(mut err) = err {
        err.read_to_string(&mut said).unwrap();
    }
    (child.wait().unwrap().code(), said)
}

/// The files in a folder and below, with their sizes.
fn files(folder: &Path) -> Vec<String> {
    let mut names = vec![];
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(files(&path));
        } else if !path.to_string_lossy().contains("tfevents") {
            names.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    names.sort();
    names
}

#[test]
fn work_is_complete_whatever_becomes_of_what_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (data, config, grid) = (path("data.csv"), path("config.json"), path("grid.json"));
    let rows: String = (0..60).map(|n| format!("{},{},1\n", n % 10, 3 * (n % 10) + n % 2)).collect();
    std::fs::write(&data, "x,y,s\n".to_string() + &rows).unwrap();
    let run = json!({
        "dataset": {"kind": "synthetic", "train_size": 64, "test_size": 20}, "loss": {"kind": "mse"},
        "model": {"kind": "mlp", "hidden": [4]}, "epochs": 2, "batch_size": 16,
    });
    let mut once = run.clone();
    biv::experiment::overlay(&mut once, json!({"tag": "t", "seed": 1}));
    std::fs::write(&config, once.to_string()).unwrap();
    std::fs::write(&grid, json!({"base": run, "grid": {"seeds": [1, 2]}}).to_string()).unwrap();
    let fit = ["fit", &data, "--label=y", "--std=s", "--members=1", "--hidden=4", "--epochs=2"];
    for (name, arguments) in [
        ("run", &["run", &config][..]),
        ("sweep", &["sweep", &grid]),
        ("fit", &fit),
        ("faces", &["faces", "--count=3", "--size=8"]),
    ] {
        let place = |out: &str| {
            let out = path(&format!("{name}-{out}"));
            let place = if name == "faces" { vec![out.clone()] } else { vec!["--out".into(), out.clone()] };
            (out, place)
        };
        let (expected, flags) = place("quiet");
        let whole = |flags: &[String]| {
            let flags = flags.iter().map(String::as_str);
            arguments.iter().copied().chain(flags).map(String::from).collect::<Vec<_>>()
        };
        assert!(biv(&whole(&flags).iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap().status.success());
        for (at, case) in CASES.into_iter().enumerate() {
            let (out, flags) = place(&at.to_string());
            let whole = whole(&flags);
            let (status, said) = status(&whole.iter().map(String::as_str).collect::<Vec<_>>(), case);
            assert_eq!(status, Some(0), "{name} {case:?}: {said}");
            assert_eq!(files(Path::new(&out)), files(Path::new(&expected)), "{name} {case:?}");
        }
    }

    // What is asked for on stdout: a reader that has gone is no error, a disk that is full is one.
    let model = path("fit-quiet/model.biv");
    let residuals = ["variances", &data, "--residual=x", "--std=s"];
    for (arguments, expected) in [
        (&["predict", &model, &data][..], "row,prediction,std\n1,"),
        (&residuals, "\"verdict\""),
        (&["run", &config, "--dry-run"], "\"epochs\": 2"),
        (&["sweep", &grid, "--count"], "2\n"),
        (&["sweep", &grid, "--table", "--out", &path("sweep-quiet")], "| "),
        (&["--help"], "Usage: biv"),
        (&["run", "--help"], "--dry-run"),
        (&["--version"], "biv 0."),
    ] {
        for case in CASES {
            let (status, said) = status(arguments, case);
            assert_eq!(status, Some(if case.0 == Full { 1 } else { 0 }), "{arguments:?} {case:?}: {said}");
            if case.0 == Stream::Read {
                assert!(said.contains(expected), "{arguments:?}: {said}");
            } else if case == (Full, Stream::Read) {
                assert!(said.contains("biv: stdout: No space left on device"), "{arguments:?}: {said}");
            }
        }
    }
    // Wrong arguments are wrong, whoever hears it.
    for case in CASES {
        assert_eq!(status(&["run", "--no-such-flag"], case).0, Some(2), "{case:?}");
        assert_eq!(status(&["predict", "/no/such", &data], case).0, Some(1), "{case:?}");
    }
}

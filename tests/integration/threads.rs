//! How many threads there are by default.

use crate::common::biv;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const RUN: &str = r#"{"tag": "threads", "epochs": 1, "loss": {"kind": "mse"},
  "dataset": {"kind": "synthetic", "train_size": 300, "test_size": 100}}"#;

/// The number of threads of a short run that `prepared` starts, a command that ends with the program's name.
fn threads_of(mut prepared: Command) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (description, out) = (folder.join("run.json"), folder.join("out"));
    fs::write(&description, RUN).unwrap();
    let arguments = ["run".as_ref(), description.as_os_str(), "--out".as_ref(), out.as_os_str()];
    prepared.args(arguments).env_remove("OMP_NUM_THREADS").env_remove("MKL_NUM_THREADS");
    let output = prepared.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let versions: serde_json::Value = serde_json::from_slice(&fs::read(out.join("versions.json")).unwrap()).unwrap();
    versions["threads"].as_u64().unwrap()
}

/// A control group that is removed at the end.
struct Group(PathBuf);

impl Group {
    /// One whose processes may have the time of `count` processors.
    fn new(count: usize) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("biv-test-{}", std::process::id());
        let first = root.join("cpu").is_dir();
        let group = Group(if first { root.join("cpu").join(name) } else { root.join(name) });
        fs::create_dir(&group.0).unwrap();
        if first {
            fs::write(group.0.join("cpu.cfs_period_us"), "100000").unwrap();
            fs::write(group.0.join("cpu.cfs_quota_us"), format!("{count}00000")).unwrap();
        } else {
            fs::write(group.0.join("cpu.max"), format!("{count}00000 100000")).unwrap();
        }
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
#[ignore = "needs the right to make a control group, and two processors"]
fn as_many_threads_as_a_control_group_has_processors() {
    let processors = std::thread::available_parallelism().unwrap().get();
    assert!(processors > 1);
    assert_eq!(threads_of(biv(&[])), processors as u64);
    let group = Group::new(1);
    let mut inside = Command::new("sh");
    inside.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(&group.0).arg(biv(&[]).get_program());
    assert_eq!(threads_of(inside), 1);
}

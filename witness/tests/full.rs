//! A full disk under the real program, also at its start: what was cosigned is shown, nothing is cosigned, `/readyz` says why, and it goes
//! on by room alone. It needs a mount namespace (`unshare`, `nsenter`); where there is none, it says so and tests nothing.

mod common;

use std::{
    fs::{self, File},
    io::Write,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{PROGRAM, Program, TestLog, add_checkpoint, call, cosigned_at, latest, verified_size, witness_dir};

/// A disk of four megabytes that only those in its namespace see, for as long as this lives.
struct Disk {
    holder: Child,
    at: PathBuf,
}

impl Disk {
    /// Made with a copy of a folder on it; `None` where there are no namespaces.
    fn with(folder: &Path, at: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let script =
            "mount -t tmpfs -o size=4m none \"$1\" && cp -a \"$0\"/. \"$1\" && touch \"$1.ready\" && exec sleep 300";
        let mut holder = Command::new("unshare");
        holder.args(["-rm", "sh", "-c", script]).arg(folder).arg(at).stdin(Stdio::null()).stderr(Stdio::null());
        let disk = Self { holder: holder.spawn().ok()?, at: at.to_owned() };
        let ready = PathBuf::from(format!("{}.ready", at.display()));
        for _ in 0..250 {
            if ready.exists() {
                return Some(disk);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// The disk as it is seen from here.
    fn path(&self) -> PathBuf {
        let at = self.at.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(at)
    }

    /// The witness on this disk.
    fn run(&self, operations: SocketAddr) -> Program {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-U", "-m", "--preserve-credentials", PROGRAM]);
        command.args(["run", "--listen", "127.0.0.1:0", "--operations", &operations.to_string(), "--dir"]);
        command.arg(&self.at).stderr(Stdio::null());
        Program::start(command)
    }

    /// Leaves not a byte.
    fn fill(&self) {
        let mut filler = File::create(self.path().join("filler")).unwrap();
        for bytes in [1 << 16, 1 << 12, 1] {
            while filler.write_all(&vec![0; bytes]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// What speaks against its being ready.
async fn readyz(operations: SocketAddr) -> String {
    call(operations, "GET", "/readyz", b"").await.body
}

async fn until_ready(operations: SocketAddr) {
    for _ in 0..300 {
        if readyz(operations).await.contains("\"ready\":true") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still not ready: {}", readyz(operations).await);
}

#[tokio::test]
async fn the_program_on_a_full_disk_shows_what_it_cosigned_also_after_a_start_and_goes_on_by_room_alone() {
    let log = TestLog::new("log.example", 5);
    let (folder, dir) = witness_dir(&[&log]);
    let Some(disk) = Disk::with(&dir, &folder.path().join("disk")) else {
        println!("no mount namespaces here: nothing was tested");
        return;
    };
    // A port that was free a moment ago.
    let operations = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut witness = disk.run(operations);
    let vkey = witness.vkey.clone();
    cosigned_at(&add_checkpoint(witness.address, &log.body(0, 7)).await, &log.text(7), &vkey);
    // Steps until the file is as full as it can be of what it has: each leaves pages that the next may use.
    let mut size = 7;
    for round in 0..3 {
        disk.fill();
        while size < 200 {
            let answer = add_checkpoint(witness.address, &log.body(size, size + 1)).await;
            if answer.status != 200 {
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.body.contains("the disk is full"), "{answer:?}");
                break;
            }
            size += 1;
        }
        assert!(size < 200, "it was never full");
        if round == 1 {
            // Killed and started while there is no room.
            witness.kill();
            witness = disk.run(operations);
        }
        for _ in 0..15 {
            let answer = add_checkpoint(witness.address, &log.body(size, size + 1)).await;
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(verified_size(&latest(witness.address, &log).await, &log, &vkey), size);
            assert!(readyz(operations).await.contains("\"storage-full\""));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        disk.free();
        until_ready(operations).await;
        let fork = log.forked_at(3);
        assert_eq!(add_checkpoint(witness.address, &fork.body(size, size + 1)).await.status, 422);
        size += 1;
        cosigned_at(&add_checkpoint(witness.address, &log.body(size - 1, size)).await, &log.text(size), &vkey);
    }
    assert_eq!(witness.signal("TERM"), Some(0));
    let left: Vec<_> = fs::read_dir(disk.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".tmp")), "{left:?}");
}

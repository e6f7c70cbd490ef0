//! The process that faces clients links nothing that could use a key.

use std::process::Command;

use tests::binaries::workspace_folder;

#[test]
fn the_router_links_no_tls_library() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--package", "router-user", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(workspace_folder())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let linked: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(linked.contains(&"client-hello"), "this is not the router's tree: {tree}");
    for library in ["rustls", "tokio-rustls", "aws-lc-rs", "aws-lc-sys", "ring", "openssl", "native-tls"] {
        assert!(!linked.contains(&library), "router-user links {library}: cargo tree -p router-user -i {library}");
    }
}

//! Compiles the protobuf definitions with `protox`, so no `protoc` is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["kms/v1/node.proto", "kms/v1/peer.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".kms.v1.peer.Share.payload")
        .bytes(".kms.v1.peer.Message.payload")
        .bytes(".kms.v1.peer.KeygenQuestion.question")
        .bytes(".kms.v1.peer.KeygenAnswer.answer")
        .compile_fds(files)?;
    Ok(())
}

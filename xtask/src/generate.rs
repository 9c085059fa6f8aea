//! Writes the files that are made from the code, and the reduced captures where `../shared` is there.

pub(crate) fn generate() {
    // One after the other, for two of them may be sections of one file.
    for number in 0..pulse_telemetry_testkit::generated::generated().len() {
        let (path, content) = pulse_telemetry_testkit::generated::generated().swap_remove(number);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
    }
    for (path, content) in pulse_telemetry_testkit::reduced::fixtures() {
        std::fs::write(&path, content).unwrap();
    }
}

//! What must hold of every manifest that is taken, for the fuzzers of `fuzz/` and the corpus test of [`crate::fuzzing`].

use super::manifest::Manifest;

/// A manifest, before it is compressed: what is taken names plain files alone and comes back as it was.
pub(crate) fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse("m", 7, bytes) else { return };
    for file in &manifest.files {
        let is_inside = !file.name.contains('/') && !file.name.is_empty() && !file.name.starts_with('.');
        assert!(is_inside, "{:?}", file.name);
        assert_eq!(file.parts.iter().map(|part| u128::from(part.bytes)).sum::<u128>(), u128::from(file.bytes));
    }
    assert!(manifest.objects().all(|object| !object.contains("..")));
    let encoded = manifest.encode().map_err(|error| error.to_string());
    let again = encoded.and_then(|bytes| Manifest::decode("m", 7, &bytes).map_err(|error| error.to_string()));
    assert_eq!(again, Ok(manifest));
}

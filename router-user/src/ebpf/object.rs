//! The object that `cargo xtask ebpf` builds, and how one set of its programs gets into the kernel.

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use router_common::{ProgramSet, SETS};

use super::Unavailable;

/// Makes the maps of `set` and readies its programs, which [`load_program`] hands to the verifier. `configure` sets
/// sizes of maps, pin paths and globals first. Maps of other sets are made as small as can be and closed again, so that
/// what goes wrong with one set leaves the others alone.
pub fn load<'l>(set: &ProgramSet, configure: impl FnOnce(&mut EbpfLoader<'l>)) -> Result<Ebpf, Unavailable> {
    // Kernels before 5.11 charge maps to the locked memory; the newer ones do not care.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let mut loader = EbpfLoader::new();
    // Nothing is relocated against the kernel's own types, so its BTF (megabytes) is not read.
    loader.btf(None);
    for other in SETS.iter().filter(|other| other.name != set.name) {
        for map in other.maps {
            loader.map_max_entries(map, 1);
        }
    }
    configure(&mut loader);
    let mut object = loader.load(OBJECT).map_err(Unavailable::of_loading)?;
    for map in SETS.iter().filter(|other| other.name != set.name).flat_map(|other| other.maps) {
        drop(object.take_map(map));
    }
    Ok(object)
}

/// Has the verifier check a program, which can be attached afterwards. A program refers to its maps by descriptors, so
/// none may be taken from `object` and closed before.
pub fn load_program<'o, P>(
    object: &'o mut Ebpf,
    name: &'static str,
    load: impl FnOnce(&mut P) -> Result<(), ProgramError>,
) -> Result<&'o mut P, Unavailable>
where
    &'o mut P: TryFrom<&'o mut Program, Error = ProgramError>,
{
    let failed = |error| Unavailable::of_program(name, error);
    let program = object.program_mut(name).ok_or(Unavailable::Object(format!("no program {name}")))?;
    let program: &mut P = program.try_into().map_err(failed)?;
    load(program).map_err(failed)?;
    Ok(program)
}

/// Aligned as the parser wants it.
#[cfg(not(feature = "ebpf-log"))]
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../router-ebpf/object/router-ebpf.o");

/// What `cargo xtask ebpf --log` has built.
#[cfg(feature = "ebpf-log")]
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SNI_ROUTER_EBPF_OBJECT"));

#[cfg(all(test, not(feature = "ebpf-log")))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_object_has_the_maps_of_the_contract() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let sections = |name: &&str| name.starts_with('.');
        let in_object: BTreeSet<_> = object.maps.keys().map(String::as_str).filter(|name| !sections(name)).collect();
        let in_contract: BTreeSet<_> = SETS.iter().flat_map(|set| set.maps).copied().collect();
        assert_eq!(in_object, in_contract);
    }
}

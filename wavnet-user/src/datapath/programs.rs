//! The programs of the datapath: those that each host needs, and one that few do, which is loaded when it is first needed. The kernel's check of a
//! program takes most of the time of a start.

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError},
};
use wavnet_common::abi::{Meta, program};

use super::{Datapath, Error, Sizes, maps, object};

/// What the programs and maps of one agent are made with.
pub(super) struct Recipe {
    pub(super) sizes: Sizes,
    pub(super) meta: Meta,
    pub(super) kernel_log: bool,
    /// Where each map is pinned.
    pub(super) pinned: Vec<(&'static str, std::path::PathBuf)>,
}

impl Recipe {
    /// Opens the maps, or makes those that are missing, and has the programs ready to be loaded.
    fn open(&self) -> Result<Ebpf, Error> {
        let mut loader = EbpfLoader::new();
        let (log_drops, log_level): (u8, u8) = if self.kernel_log { (1, aya_log::Level::Warn as u8) } else { (0, 0) };
        let (masks, cookie) = (maps::masks(&self.sizes), self.meta.cookie());
        for (name, mask) in &masks {
            loader.override_global(name, mask, true);
        }
        loader.override_global("COOKIE", &cookie, true);
        loader.override_global("SEED", &self.meta.seed, true);
        loader.override_global("LOG_DROPS", &log_drops, true);
        loader.override_global(aya_log::LEVEL, &log_level, true);
        for (name, entries) in maps::entries(&self.sizes) {
            loader.map_max_entries(name, entries);
        }
        for (name, path) in &self.pinned {
            loader.map_pin_path(name, path);
        }
        loader.load(object::bytes()?).map_err(Error::load)
    }

    /// A map that is no longer pinned would be made anew, and the program that is loaded now would have it for itself.
    fn check_pins(&self, program: &str) -> Result<(), Error> {
        let Some((_, path)) = self.pinned.iter().find(|(_, path)| !path.exists()) else { return Ok(()) };
        let why = format!("somebody has removed {}; start the agent again", path.display());
        Err(Error::kernel(format!("loading {program}"), why))
    }
}

/// The programs.
pub(super) struct Programs {
    recipe: Recipe,
    usual: Ebpf,
    /// An object of its own: what an object's programs refer to must stay open until they are loaded, and the usual one's maps have users.
    generic: Option<Ebpf>,
}

impl Programs {
    /// Loads those that each host needs.
    pub(super) fn load(recipe: Recipe) -> Result<Programs, Error> {
        let mut usual = recipe.open()?;
        // There is one log, that of the usual object.
        let all = recipe.kernel_log;
        for (name, program) in usual.programs_mut().filter(|(name, _)| all || *name != program::UNDERLAY_XDP_GENERIC) {
            load(name, program)?;
        }
        Ok(Programs { recipe, usual, generic: None })
    }

    /// The object whose maps are in use.
    pub(super) fn maps(&mut self) -> &mut Ebpf {
        &mut self.usual
    }

    /// Those that are loaded.
    pub(super) fn loaded(&self) -> impl Iterator<Item = (&str, &Program)> {
        let objects = [Some(&self.usual), self.generic.as_ref()].into_iter().flatten();
        objects.flat_map(Ebpf::programs).filter(|(_, program)| program.fd().is_ok())
    }

    /// A program by its name; it is loaded if it is not.
    pub(super) fn get(&mut self, name: &str) -> Result<&mut Program, Error> {
        let missing = || Error::kernel(format!("finding program {name}"), "the object has no such program");
        if name != program::UNDERLAY_XDP_GENERIC || self.recipe.kernel_log {
            return self.usual.program_mut(name).ok_or_else(missing);
        }
        if self.generic.is_none() {
            self.recipe.check_pins(name)?;
            let mut generic = self.recipe.open()?;
            load(name, generic.program_mut(name).ok_or_else(missing)?)?;
            self.generic = Some(generic);
        }
        self.generic.as_mut().and_then(|generic| generic.program_mut(name)).ok_or_else(missing)
    }

    /// A program as the type that its user wants.
    pub(super) fn typed<'a, T>(&'a mut self, name: &'static str) -> Result<&'a mut T, Error>
    where
        &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        self.get(name)?.try_into().map_err(|e| Error::program(name, e))
    }
}

/// Loads every program of an object into the kernel.
pub(super) fn load_all(ebpf: &mut Ebpf) -> Result<(), Error> {
    ebpf.programs_mut().try_for_each(|(name, program)| load(name, program))
}

fn load(name: &str, program: &mut Program) -> Result<(), Error> {
    match program {
        Program::Xdp(p) => p.load(),
        Program::SchedClassifier(p) => p.load(),
        _ => Ok(()),
    }
    .map_err(|e| Error::program(name, e))
}

impl Datapath {
    /// A program by its name ([`wavnet_common::abi::program`]), for test-runs and for reading its size; it is loaded if it is not.
    ///
    /// # Errors
    /// The object has no such program, or the kernel refuses it.
    pub fn program(&mut self, name: &str) -> Result<&Program, Error> {
        Ok(self.programs.get(name)?)
    }
}

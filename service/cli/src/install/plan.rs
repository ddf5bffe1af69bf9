// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has to be done so that a driver is installed as it is wished: nothing, if it is already.

use super::Wish;
use super::step::Step;
use crate::altitude::{self, Altitude};
use crate::driver::{self, COMMON, INSTALLED_BY, INSTALLED_FILE, LAYOUTS, NEVER_ATTACH};
use crate::failure::Failure;
use crate::image::Image;
use crate::machine::{Entry, Kind, Machine, Start, State, Trouble, Value};

/// What has to be done for one driver.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    /// There was no service before.
    pub(crate) new: bool,
    pub(crate) running: bool,
    /// Of a filter.
    pub(crate) altitude: Option<Altitude>,
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    pub(crate) fn writes_altitude(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| {
            matches!(
                step,
                Step::Set {
                    name: "Altitude",
                    ..
                }
            )
        })
    }
}

/// What is known of the driver before anything is done.
struct Now<'m> {
    machine: &'m Machine,
    name: &'m str,
    entry: Option<Entry>,
    /// The service control manager knows it.
    known: bool,
    running: bool,
    marked: bool,
    copied: Option<String>,
}

/// Plans for the driver `name` with the file `source`. Changes nothing.
pub(crate) fn plan(
    machine: &Machine,
    wish: &Wish,
    name: &str,
    source: &str,
) -> Result<Plan, Failure> {
    let content = machine.read_file(source)?.ok_or_else(|| {
        Failure::new(format!(
            "there is no file {source}. Name the folder of the drivers with --from, or the file with --driver {name}=PATH"
        ))
    })?;
    let image = Image::read(&content).map_err(|why| {
        Failure::new(format!(
            "{source} cannot be installed: {why}. Name the .sys file of an x64 driver"
        ))
    })?;
    let now = Now::look(machine, name)?;
    now.may_be_changed()?;
    let filter = name.eq_ignore_ascii_case(COMMON) || image.is_filter();
    let altitude = if filter {
        Some(now.altitude(wish)?)
    } else {
        None
    };
    let mut steps = Vec::new();
    let start = now.start(wish);
    if wish.in_place && start == Start::Boot {
        return Err(Failure::new(format!(
            "{name} is started by the boot loader, which reads drivers from the system's folder only. Leave --in-place out, or choose another --start"
        )));
    }
    if wish.in_place && source.starts_with(r"\\") {
        return Err(Failure::new(format!(
            "{source} is on the network, where the kernel loads no drivers from. Leave --in-place out, so that it is copied"
        )));
    }
    let target = if wish.in_place {
        source.to_owned()
    } else {
        machine.drivers_file(name)
    };
    let owned = now.plan_file(source, &target, content, &mut steps)?;
    let stored = if wish.in_place {
        format!(r"\??\{source}")
    } else {
        format!(r"\SystemRoot\System32\drivers\{name}.sys")
    };
    now.plan_entry(driver::entry(filter, start, stored), &target, &mut steps);
    now.plan_mark(owned.then_some(target.as_str()), &mut steps)?;
    if let Some(altitude) = &altitude {
        now.plan_instances(altitude, &mut steps)?;
    }
    now.plan_removal(&target, &mut steps)?;
    Ok(Plan {
        name: name.to_owned(),
        new: now.entry.is_none(),
        running: now.running,
        altitude,
        steps,
    })
}

impl<'m> Now<'m> {
    fn look(machine: &'m Machine, name: &'m str) -> Result<Now<'m>, Trouble> {
        let condition = machine.condition(name)?;
        Ok(Now {
            machine,
            name,
            entry: machine.entry(name)?,
            known: condition.is_some(),
            running: condition.is_some_and(|c| c.state != State::Stopped),
            marked: driver::is_marked(machine, name)?,
            copied: driver::copied_file(machine, name)?,
        })
    }

    /// Refuses what belongs to somebody else.
    fn may_be_changed(&self) -> Result<(), Failure> {
        let (name, Some(entry)) = (self.name, &self.entry) else {
            return Ok(());
        };
        if let Some(failure) = driver::deleted(self.machine, name)? {
            return Err(failure);
        }
        if let Kind::Other(_) = entry.kind {
            return Err(Failure::new(format!(
                "there is a service {name} that is no driver ({}). Remove it, or name the driver otherwise",
                entry.kind
            )));
        }
        if entry
            .image
            .to_lowercase()
            .contains(r"\driverstore\filerepository\")
        {
            return Err(Failure::new(format!(
                "{name} has been installed from an INF file, by Windows' own means. Remove that first: `pnputil /enum-drivers` names the package, `pnputil /delete-driver oemNN.inf /uninstall` removes it"
            )));
        }
        if !self.known && (self.marked || driver::is_own(name)) {
            return Err(Failure::new(format!(
                "the registry has a service {name} that the service control manager does not know; somebody has written there past it. Remove what is left: fltport uninstall {name}"
            )));
        }
        if !self.marked && !driver::is_own(name) {
            return Err(Failure::new(format!(
                "there is a service {name} that this command has not installed. Choose another name, or remove it: sc delete {name}"
            )));
        }
        Ok(())
    }

    fn start(&self, wish: &Wish) -> Start {
        let kept = self.entry.as_ref().map(|entry| entry.start);
        let kept = kept.filter(|start| *start != Start::Disabled);
        wish.start.or(kept).unwrap_or(Start::Demand)
    }

    fn altitude(&self, wish: &Wish) -> Result<Altitude, Failure> {
        let preset = || {
            self.name
                .eq_ignore_ascii_case(COMMON)
                .then(Altitude::preset)
        };
        let chosen = match &wish.altitude {
            Some(altitude) => Some(altitude.clone()),
            None => self.kept_altitude()?.or_else(preset),
        };
        let chosen = chosen.ok_or_else(|| {
            Failure::new(format!(
                "{} registers with the Filter Manager and needs an altitude of its own. Choose one: --altitude NUMBER",
                self.name
            ))
        })?;
        match holder(self.machine, self.name, chosen.as_str())? {
            Some(other) => Err(Failure::new(format!(
                "the altitude {chosen} is that of the service {other}. Choose another: --altitude NUMBER"
            ))),
            None => Ok(chosen),
        }
    }

    /// The one that it has, if it is good: an upgrade does not change it.
    fn kept_altitude(&self) -> Result<Option<Altitude>, Trouble> {
        for layout in LAYOUTS {
            let key = format!(r"{}\{layout}\{}", self.name, self.name);
            if let Some(Value::Text(text)) = self.machine.value(&key, "Altitude")?
                && let Ok(altitude) = text.parse()
            {
                return Ok(Some(altitude));
            }
        }
        Ok(None)
    }

    /// Copies the file, unless it is there already. Whether what is there is this command's to
    /// remove.
    fn plan_file(
        &self,
        source: &str,
        target: &str,
        content: Vec<u8>,
        steps: &mut Vec<Step>,
    ) -> Result<bool, Failure> {
        if source.eq_ignore_ascii_case(target) {
            return Ok(self.is_copied(target));
        }
        let before = self.machine.read_file(target)?;
        let known = driver::is_own(self.name) || self.is_copied(target);
        if before.as_ref() == Some(&content) {
            return Ok(known);
        }
        if before.is_some() && !known {
            return Err(Failure::new(format!(
                "there is another file {target}, which this command has not copied. Remove it, or name the driver otherwise"
            )));
        }
        if before.is_some() {
            self.must_be_stopped("its file cannot be replaced while it is loaded")?;
        }
        let from = source.to_owned();
        let path = target.to_owned();
        steps.push(Step::WriteFile {
            path,
            from,
            content,
            before,
        });
        Ok(true)
    }

    fn is_copied(&self, path: &str) -> bool {
        self.copied
            .as_ref()
            .is_some_and(|copied| copied.eq_ignore_ascii_case(path))
    }

    fn must_be_stopped(&self, why: &str) -> Result<(), Failure> {
        if !self.running {
            return Ok(());
        }
        let name = self.name;
        Err(Failure::new(format!(
            "{name} is running, and {why}. Stop it first: fltport stop {name}"
        )))
    }

    fn plan_entry(&self, mut entry: Entry, target: &str, steps: &mut Vec<Step>) {
        let name = self.name.to_owned();
        let Some(before) = self.entry.clone() else {
            steps.push(Step::Create { name, entry });
            return;
        };
        // There are several ways to write one path and one name.
        if self
            .machine
            .image_file(self.name, &before.image)
            .eq_ignore_ascii_case(target)
        {
            entry.image.clone_from(&before.image);
        }
        if before.group.eq_ignore_ascii_case(&entry.group) {
            entry.group.clone_from(&before.group);
        }
        let mut pairs = before.dependencies.iter().zip(&entry.dependencies);
        if before.dependencies.len() == entry.dependencies.len()
            && pairs.all(|(one, other)| one.eq_ignore_ascii_case(other))
        {
            entry.dependencies.clone_from(&before.dependencies);
        }
        if before != entry {
            steps.push(Step::Change {
                name,
                entry,
                before,
            });
        }
    }

    fn plan_key(&self, key: &str, steps: &mut Vec<Step>) -> Result<(), Trouble> {
        let step = Step::MakeKey {
            key: key.to_owned(),
        };
        if !steps.contains(&step) && self.machine.keys(key)?.is_none() {
            steps.push(step);
        }
        Ok(())
    }

    fn plan_value(
        &self,
        key: &str,
        name: &'static str,
        value: Value,
        steps: &mut Vec<Step>,
    ) -> Result<(), Trouble> {
        let before = self.machine.value(key, name)?;
        if before.as_ref() != Some(&value) {
            let key = key.to_owned();
            steps.push(Step::Set {
                key,
                name,
                value,
                before,
            });
        }
        Ok(())
    }

    fn plan_mark(&self, copied: Option<&str>, steps: &mut Vec<Step>) -> Result<(), Trouble> {
        let parameters = driver::parameters(self.name);
        self.plan_key(&parameters, steps)?;
        self.plan_value(&parameters, INSTALLED_BY, Value::text(COMMON), steps)?;
        match (copied, self.machine.value(&parameters, INSTALLED_FILE)?) {
            (Some(path), _) => {
                self.plan_value(&parameters, INSTALLED_FILE, Value::text(path), steps)?;
            }
            (None, Some(before)) => steps.push(Step::RemoveValue {
                key: parameters,
                name: INSTALLED_FILE,
                before,
            }),
            (None, None) => {}
        }
        Ok(())
    }

    /// The instance, in both layouts. `DefaultInstance` comes last, so that whoever finds it finds
    /// the rest, too.
    fn plan_instances(&self, altitude: &Altitude, steps: &mut Vec<Step>) -> Result<(), Trouble> {
        let flags = self.flags()?;
        for layout in LAYOUTS {
            let instances = format!(r"{}\{layout}", self.name);
            let instance = format!(r"{instances}\{}", self.name);
            self.plan_key(&instances, steps)?;
            self.plan_key(&instance, steps)?;
            self.plan_value(&instance, "Altitude", Value::text(altitude.as_str()), steps)?;
            self.plan_value(&instance, "Flags", Value::Number(flags), steps)?;
            self.plan_value(&instances, "DefaultInstance", Value::text(self.name), steps)?;
        }
        Ok(())
    }

    /// The common driver attaches to volumes only if it is configured so. What others want is not
    /// known: theirs stay, and begin with the automatic attachment of the samples.
    fn flags(&self) -> Result<u32, Trouble> {
        if self.name.eq_ignore_ascii_case(COMMON) {
            let attach = self
                .machine
                .value(&driver::parameters(self.name), "AttachToVolumes")?;
            let wanted = matches!(attach, Some(Value::Number(number)) if number != 0);
            return Ok(if wanted { 0 } else { NEVER_ATTACH });
        }
        for layout in LAYOUTS {
            let key = format!(r"{}\{layout}\{}", self.name, self.name);
            if let Some(Value::Number(flags)) = self.machine.value(&key, "Flags")? {
                return Ok(flags);
            }
        }
        Ok(0)
    }

    /// A copy that an earlier run has made and that nothing runs from any more.
    fn plan_removal(&self, target: &str, steps: &mut Vec<Step>) -> Result<(), Failure> {
        let Some(path) = self
            .copied
            .clone()
            .filter(|path| !path.eq_ignore_ascii_case(target))
        else {
            return Ok(());
        };
        if let Some(before) = self.machine.read_file(&path)? {
            self.must_be_stopped("the copy of its file cannot be removed while it is loaded")?;
            steps.push(Step::RemoveFile { path, before });
        }
        Ok(())
    }
}

/// Another service that has an instance at this altitude.
pub(crate) fn holder(
    machine: &Machine,
    name: &str,
    altitude: &str,
) -> Result<Option<String>, Trouble> {
    for other in machine.keys("")?.unwrap_or_default() {
        if other.eq_ignore_ascii_case(name) {
            continue;
        }
        for layout in LAYOUTS {
            let instances = format!(r"{other}\{layout}");
            let found = driver::of_anybody(machine.keys(&instances))?;
            for instance in found.unwrap_or_default() {
                let key = format!(r"{instances}\{instance}");
                if let Some(Value::Text(text)) =
                    driver::of_anybody(machine.value(&key, "Altitude"))?
                    && altitude::same(&text, altitude)
                {
                    return Ok(Some(other));
                }
            }
        }
    }
    Ok(None)
}

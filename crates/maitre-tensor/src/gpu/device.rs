//! A GPU as a backend sees it: its queue, the index lists of the step, and memory to work in.
//!
//! Operators are told rows, slots and blocks as lists in host memory. Kernels read them from the device, so a
//! step's lists are copied there once, before its first operator ([`StepLists`]); an operator that is given
//! one of them finds it by its address, one that is given any other list copies it first.
//!
//! ```text
//! lists   [tokens][positions][output rows][slots, per group][spans · 4, per group][block tables of all groups] | ..
//!          at offsets that depend on their lengths alone: what a recorded step reads is where it was
//!          ..  lists of single operators
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::Allocation;
use super::{Arg, DeviceBytes, DrawnTokens, Gpu, GpuInfo, GpuOptions, GraphId, Hold, Queue};
use crate::{BlockTables, KvGroup, Span, TensorError};

/// Words per span on the device.
const SPAN_WORDS: usize = 4;

/// Where lists start: multiples of so many words.
const LIST_WORDS: usize = 64;

/// The index lists of a step; all may be empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepLists<'a> {
    /// Token ids, positions, output rows: whatever operators of the step are given.
    pub indices: [&'a [u32]; 3],
    /// The spans attention is given.
    pub spans: &'a [Span],
    /// Their slots and block tables, in each KV group.
    pub groups: &'a [KvGroup],
    /// No span has a longer context. It fixes how attention is cut up, so that what is recorded for some contexts
    /// serves others; 0 is whatever the longest is.
    pub context_bound: usize,
    /// Tokens that an earlier step chose: `indices[0]` has others in their places, which are not used.
    pub drawn: Option<DrawnTokens<'a>>,
}

/// A list on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Staged {
    /// Address and length of the list in host memory. It is borrowed for as long as this is known.
    host: (usize, usize),
    /// Bytes into the lists.
    offset: usize,
}

/// Spans with the block tables of one group on the device.
#[derive(Debug, Clone, Copy)]
struct StagedSpans {
    /// Addresses and lengths of both in host memory, as in [`Staged`].
    host: [(usize, usize); 2],
    /// Bytes into the lists: of the spans, and of the tables of all groups, where each span says its place.
    offsets: [usize; 2],
}

/// What changes from operator to operator.
#[derive(Debug)]
struct State {
    lists: DeviceBytes,
    staged: Vec<Staged>,
    staged_spans: Vec<StagedSpans>,
    /// Words of the step's lists.
    step_words: usize,
    /// Words of these and of the operator's own.
    used: usize,
    context_bound: usize,
    /// Whether a step is being recorded: what is copied then would be copied again as it was.
    recording: bool,
    scratch: DeviceBytes,
    /// Counts how often lists or scratch memory have moved: what was recorded before reads the old ones.
    generation: u64,
    words: Vec<u8>,
}

/// A GPU with what its operators share.
#[derive(Debug)]
pub(crate) struct Device {
    queue: Queue,
    options: GpuOptions,
    has_hopper_kernels: bool,
    state: Mutex<State>,
    /// Tells it from others, as does no other; see [`Device::identity`].
    identity: Arc<()>,
}

/// A step that was recorded, with a share of all memory that it uses.
#[derive(Debug)]
pub(crate) struct RecordedStep {
    gpu: Arc<dyn Gpu>,
    graph: GraphId,
    /// Dropped behind the graph.
    _kept: Vec<Arc<Allocation>>,
}

impl Drop for RecordedStep {
    fn drop(&mut self) {
        self.gpu.drop_graph(self.graph);
    }
}

/// The device during one operator.
pub(crate) struct DeviceTurn<'d> {
    device: &'d Device,
    state: MutexGuard<'d, State>,
    /// Given back last.
    _hold: Hold<'d>,
}

impl Device {
    pub(crate) fn new(gpu: Arc<dyn Gpu>, options: GpuOptions) -> Result<Self, TensorError> {
        let state = State {
            lists: DeviceBytes::zeroed(&gpu, 0)?,
            staged: Vec::new(),
            staged_spans: Vec::new(),
            step_words: 0,
            used: 0,
            context_bound: 0,
            recording: false,
            scratch: DeviceBytes::zeroed(&gpu, 0)?,
            generation: 0,
            words: Vec::new(),
        };
        Ok(Self {
            has_hopper_kernels: gpu.has_hopper_kernels(),
            queue: Queue::new(gpu),
            options,
            state: Mutex::new(state),
            identity: Arc::new(()),
        })
    }

    pub(crate) fn gpu(&self) -> &Arc<dyn Gpu> {
        self.queue.gpu()
    }

    pub(crate) fn info(&self) -> &GpuInfo {
        self.gpu().info()
    }

    pub(crate) fn options(&self) -> GpuOptions {
        self.options
    }

    /// Whether it can run the kernels of `cuda/*_hopper.cu`.
    pub(crate) fn has_hopper_kernels(&self) -> bool {
        self.has_hopper_kernels
    }

    /// Zeroed memory.
    pub(crate) fn zeroed(&self, bytes: usize) -> Result<DeviceBytes, TensorError> {
        DeviceBytes::zeroed(self.gpu(), bytes)
    }

    /// Takes the GPU for a step of several operators: other threads' operators come before it or behind it, also those
    /// of other devices on the same GPU.
    pub(crate) fn step(&self) -> Hold<'_> {
        self.gpu().turns().hold()
    }

    /// The same for as long as the device is there, and another for every other, also on the same GPU.
    pub(crate) fn identity(&self) -> &Arc<()> {
        &self.identity
    }

    /// Records what `f` queues. The caller holds the [`step`](Self::step).
    pub(crate) fn record(
        &self,
        f: &mut dyn FnMut() -> Result<(), TensorError>,
    ) -> Result<RecordedStep, TensorError> {
        let gpu = self.gpu();
        gpu.begin_capture()?;
        gpu.turns().begin_keeping();
        let recording = Recording(self);
        self.turn().state.recording = true;
        let queued = f();
        drop(recording);
        let kept = gpu.turns().take_kept();
        let recorded = gpu.end_capture().map(|graph| RecordedStep {
            gpu: Arc::clone(gpu),
            graph,
            _kept: kept,
        });
        queued.and(recorded)
    }

    /// Plays what was recorded in the present generation.
    #[allow(unsafe_code)]
    pub(crate) fn replay(&self, step: &RecordedStep) -> Result<(), TensorError> {
        // SAFETY: what was recorded stays within the memory that the step shares, as long as the indices in lists are
        // within the bounds that were checked when it was recorded, which `Backend::step_recorded` asks for.
        unsafe { self.gpu().replay(step.graph) }
    }

    /// Takes the device for one operator.
    pub(crate) fn turn(&self) -> DeviceTurn<'_> {
        // First, as a thread in a step holds the GPU and then asks for the state.
        let hold = self.step();
        DeviceTurn {
            device: self,
            // A panic in an operator leaves lists that the next step overwrites.
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner),
            _hold: hold,
        }
    }
}

/// Says that recording is over, also where `f` panics.
struct Recording<'d>(&'d Device);

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.turn().state.recording = false;
        if std::thread::panicking() {
            drop(self.0.gpu().turns().take_kept());
            let graph = self.0.gpu().end_capture();
            graph.into_iter().for_each(|it| self.0.gpu().drop_graph(it));
        }
    }
}

impl DeviceTurn<'_> {
    pub(crate) fn queue(&self) -> &Queue {
        &self.device.queue
    }

    pub(crate) fn device(&self) -> &Device {
        self.device
    }

    /// Space for lists of so many words in all, and so many bytes to work in. Addresses stay the same until a
    /// later call asks for more.
    pub(crate) fn reserve(
        &mut self,
        list_words: usize,
        scratch_bytes: usize,
    ) -> Result<(), TensorError> {
        self.reserve_lists(list_words + LIST_WORDS * 8)?;
        self.reserve_scratch(scratch_bytes)
    }

    /// What was recorded in another generation must not be played.
    pub(crate) fn generation(&self) -> u64 {
        self.state.generation
    }

    /// Copies a step's lists to the device, where the step's operators find them until [`forget`](Self::forget).
    pub(crate) fn stage(&mut self, lists: &StepLists<'_>) -> Result<(), TensorError> {
        self.forget();
        let mut words = std::mem::take(&mut self.state.words);
        words.clear();
        for list in lists.indices {
            self.note(list, &mut words);
            words.extend(list.iter().flat_map(|word| word.to_le_bytes()));
        }
        for group in lists.groups {
            self.note(&group.slots, &mut words);
            words.extend(group.slots.iter().flat_map(|word| word.to_le_bytes()));
        }
        self.stage_spans(lists, &mut words)?;
        let used = (words.len() / size_of::<u32>()).next_multiple_of(LIST_WORDS);
        let result = self
            .reserve_lists(used)
            .and_then(|()| self.state.lists.upload(0, &words));
        self.state.words = words;
        (self.state.step_words, self.state.used) = (used, used);
        self.state.context_bound = lists.context_bound;
        result?;
        let Some(drawn) = lists.drawn else {
            return Ok(());
        };
        let placed = self.place(drawn, lists.indices[0].len());
        // What was placed lies among the step's lists; the list of places need not stay.
        self.state.used = used;
        placed
    }

    /// Appends the spans, once for each group, and then the block tables of all groups: behind everything whose length
    /// is the same in each step of a shape.
    fn stage_spans(
        &mut self,
        lists: &StepLists<'_>,
        words: &mut Vec<u8>,
    ) -> Result<(), TensorError> {
        let mut first = 0;
        for KvGroup { tables, .. } in lists.groups {
            align(words);
            self.state.staged_spans.push(StagedSpans {
                host: [place(lists.spans), place(&tables.tables)],
                offsets: [words.len(), 0],
            });
            let spans = span_words(lists.spans, tables, first)?;
            words.extend(spans.iter().flat_map(|word| word.to_le_bytes()));
            first += tables.tables.iter().map(Vec::len).sum::<usize>();
        }
        align(words);
        for staged in &mut self.state.staged_spans {
            staged.offsets[1] = words.len();
        }
        let tables = lists.groups.iter().flat_map(|group| &group.tables.tables);
        words.extend(tables.flatten().flat_map(|word| word.to_le_bytes()));
        Ok(())
    }

    /// The step's lists may change from now on.
    pub(crate) fn forget(&mut self) {
        self.state.staged.clear();
        self.state.staged_spans.clear();
        (self.state.step_words, self.state.used) = (0, 0);
        self.state.context_bound = 0;
    }

    /// Where `list` lies on the device; it is copied there if the step has not done so.
    pub(crate) fn list(&mut self, list: &[u32]) -> Result<usize, TensorError> {
        match self.find(list) {
            Some(offset) => Ok(offset),
            None => self.upload_list(list.iter().copied()),
        }
    }

    /// Where spans and tables lie on the device, copied if the step has not done so.
    pub(crate) fn spans(
        &mut self,
        spans: &[Span],
        tables: &BlockTables,
    ) -> Result<[usize; 2], TensorError> {
        let host = [place(spans), place(&tables.tables)];
        let mut staged = self.state.staged_spans.iter();
        if let Some(staged) = staged.find(|staged| staged.host == host) {
            return Ok(staged.offsets);
        }
        let spans = self.upload_list(span_words(spans, tables, 0)?.into_iter())?;
        let tables = self.upload_list(tables.tables.iter().flatten().copied())?;
        Ok([spans, tables])
    }

    /// No span of the operator has a longer context.
    pub(crate) fn context_bound(&self, spans: &[Span]) -> usize {
        let longest = spans.iter().map(|span| span.context_len).max();
        self.state.context_bound.max(longest.unwrap_or(0))
    }

    /// A list as an argument of a kernel.
    pub(crate) fn list_arg(&self, offset: usize) -> Arg<'_> {
        Arg::At(&self.state.lists, offset)
    }

    /// Memory to work in, of at least `bytes`; what it holds lasts as long as the operator.
    pub(crate) fn reserve_scratch(&mut self, bytes: usize) -> Result<(), TensorError> {
        if self.state.scratch.len() < bytes {
            self.refuse_while_recording("scratch memory")?;
            self.state.scratch = self.device.zeroed(bytes)?;
            self.state.generation += 1;
        }
        Ok(())
    }

    /// What [`reserve_scratch`](Self::reserve_scratch) reserved.
    pub(crate) fn scratch(&self) -> &DeviceBytes {
        &self.state.scratch
    }

    fn upload_list(&mut self, list: impl Iterator<Item = u32>) -> Result<usize, TensorError> {
        self.refuse_while_recording("a list of a single operator")?;
        let mut words = std::mem::take(&mut self.state.words);
        words.clear();
        words.extend(list.flat_map(u32::to_le_bytes));
        let first = self.state.used;
        let end = first + (words.len() / size_of::<u32>()).next_multiple_of(LIST_WORDS);
        let offset = first * size_of::<u32>();
        let result = self
            .reserve_lists(end)
            .and_then(|()| self.state.lists.upload(offset, &words));
        self.state.words = words;
        self.state.used = end;
        result.map(|()| offset)
    }

    /// Moves what is there, so that a list that grows costs the step nothing but time.
    fn reserve_lists(&mut self, words: usize) -> Result<(), TensorError> {
        let bytes = words * size_of::<u32>();
        if self.state.lists.len() < bytes {
            self.refuse_while_recording("longer index lists")?;
            let mut larger = self.device.zeroed(bytes.next_power_of_two())?;
            let known = self.state.lists.len();
            larger.copy_from(0, &self.state.lists, 0, known)?;
            self.state.lists = larger;
            self.state.generation += 1;
        }
        Ok(())
    }

    fn refuse_while_recording(&self, what: &str) -> Result<(), TensorError> {
        if !self.state.recording {
            return Ok(());
        }
        Err(TensorError::Device {
            operation: "recording a step",
            message: format!("it needs {what}, which was not there when recording began"),
        })
    }

    /// Notes that a list begins behind `words`, which it fills up.
    fn note<T>(&mut self, list: &[T], words: &mut Vec<u8>) {
        align(words);
        let (host, offset) = (place(list), words.len());
        self.state.staged.push(Staged { host, offset });
    }

    fn find<T>(&self, list: &[T]) -> Option<usize> {
        let host = place(list);
        let staged = self.state.staged.iter();
        staged
            .copied()
            .find(|it| it.host == host)
            .map(|it| it.offset)
    }
}

impl Drop for DeviceTurn<'_> {
    fn drop(&mut self) {
        // The operator's own lists are overwritten by the next one's: the queue keeps their order.
        self.state.used = self.state.step_words;
    }
}

/// Where a list begins in host memory, and its bytes.
fn place<T>(list: &[T]) -> (usize, usize) {
    (list.as_ptr().addr(), size_of_val(list))
}

/// Fills up so that a list may begin.
fn align(words: &mut Vec<u8>) {
    let line = LIST_WORDS * size_of::<u32>();
    words.resize(words.len().next_multiple_of(line), 0);
}

/// `{first_token, num_tokens, context_len, table_offset}` of each span, where the entries of the first table begin at
/// `offset`. A table's offset is that of the span's block 0, although the table may begin with a later one: kernels
/// count modulo 2^32.
fn span_words(
    spans: &[Span],
    tables: &BlockTables,
    mut offset: usize,
) -> Result<Vec<u32>, TensorError> {
    let fits = |value: usize, span: &Span| {
        u32::try_from(value).map_err(|_| TensorError::Device {
            operation: "copying spans",
            message: format!("{value} does not fit 32 bits in {span:?}"),
        })
    };
    let mut words = Vec::with_capacity(spans.len() * SPAN_WORDS);
    for (index, (span, table)) in spans.iter().zip(&tables.tables).enumerate() {
        for value in [span.first_token, span.num_tokens, span.context_len] {
            words.push(fits(value, span)?);
        }
        let first = fits(tables.first_block(index), span)?;
        words.push(fits(offset, span)?.wrapping_sub(first));
        offset += table.len();
    }
    Ok(words)
}

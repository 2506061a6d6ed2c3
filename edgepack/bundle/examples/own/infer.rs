//! Runs the model of this bundle on .npy files and prints the largest values of its first output, of fp32.
//!
//!     rustc -O infer.rs -C link-arg=../model/model.so -C link-arg='-Wl,-rpath,$ORIGIN/../model'
//!     ./infer [INPUT.npy...]

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::{env, fs, process, ptr, slice};

const WEIGHTS: &str = "../model/model.so.weights"; // from the folder in which the program runs
const TEXT: usize = 4096; // EDGEPACK_TEXT
const FLOAT: u8 = 2;

/// `edgepack_tensor`
#[repr(C)]
struct Tensor {
    name: *const c_char,
    code: u8,
    bits: u8,
    rank: i32,
    shape: *const i64,
    size: u64,
    scale: f32,
    zero_point: i32,
}

#[repr(C)]
struct Net {
    _private: [u8; 0],
}

#[repr(C)]
struct Opened {
    _private: [u8; 0],
}

extern "C" {
    static edgepack_this_net: Net; // in model.so, with the functions of edgepack.h
    fn edgepack_open(
        net: *const Net,
        weights: *const c_char,
        threads: c_int,
        model: *mut *mut Opened,
        why: *mut c_char,
    ) -> c_int;
    fn edgepack_close(model: *mut Opened);
    fn edgepack_input_count(net: *const Net) -> c_int;
    fn edgepack_input_info(net: *const Net, number: c_int) -> *const Tensor;
    fn edgepack_output_info(net: *const Net, number: c_int) -> *const Tensor;
    fn edgepack_set_input(model: *mut Opened, number: c_int, data: *const c_void, size: usize) -> c_int;
    fn edgepack_run(model: *mut Opened) -> c_int;
    fn edgepack_output(model: *const Opened, number: c_int) -> *const c_void;
}

struct Model(*mut Opened);

unsafe impl Send for Model {} // one thread at a time uses it

impl Model {
    fn open(weights: &str, threads: i32) -> Result<Self, String> {
        let path = CString::new(weights).map_err(|error| error.to_string())?;
        let mut model = ptr::null_mut();
        let mut why = [0 as c_char; TEXT];
        let status =
            unsafe { edgepack_open(&edgepack_this_net, path.as_ptr(), threads, &mut model, why.as_mut_ptr()) };
        if status == 0 {
            return Ok(Self(model));
        }
        Err(unsafe { CStr::from_ptr(why.as_ptr()) }.to_string_lossy().into_owned())
    }

    fn set_input(&mut self, number: usize, data: &[u8]) -> Result<(), String> {
        match unsafe { edgepack_set_input(self.0, number as c_int, data.as_ptr().cast(), data.len()) } {
            0 => Ok(()),
            _ => Err(format!("input {number} has another size")),
        }
    }

    fn run(&mut self) -> Result<&[f32], String> {
        if unsafe { edgepack_run(self.0) } != 0 {
            return Err("out of memory".into());
        }
        let info = unsafe { &*edgepack_output_info(&edgepack_this_net, 0) };
        if (info.code, info.bits) != (FLOAT, 32) {
            return Err("the output has an element type that this example does not print".into());
        }
        let data = unsafe { edgepack_output(self.0, 0) }.cast::<f32>();
        Ok(unsafe { slice::from_raw_parts(data, info.size as usize / 4) })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { edgepack_close(self.0) }
    }
}

/// The elements of a C-ordered little-endian .npy file of version 1.
fn read_npy(path: &str) -> Result<Vec<u8>, String> {
    let file = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    if file.len() < 10 || !file.starts_with(b"\x93NUMPY\x01") {
        return Err(format!("{path}: not a .npy file of version 1"));
    }
    let head = 10 + usize::from(file[8]) + 256 * usize::from(file[9]);
    file.get(head..).map(<[u8]>::to_vec).ok_or_else(|| format!("{path}: it is cut"))
}

fn infer(paths: &[String]) -> Result<(), String> {
    let inputs = unsafe { edgepack_input_count(&edgepack_this_net) } as usize;
    if inputs != paths.len() {
        return Err(format!("the model has {inputs} inputs"));
    }
    let mut model = Model::open(WEIGHTS, 1)?;
    for (number, path) in paths.iter().enumerate() {
        let data = read_npy(path)?;
        let info = unsafe { &*edgepack_input_info(&edgepack_this_net, number as c_int) };
        if data.len() as u64 != info.size {
            return Err(format!("{path}: its size is not that of the model's input"));
        }
        model.set_input(number, &data)?;
    }
    let output = model.run()?;
    let mut order: Vec<usize> = (0..output.len()).collect();
    order.sort_by(|&a, &b| output[b].total_cmp(&output[a]).then(a.cmp(&b)));
    for &index in order.iter().take(5) {
        println!("{index:8}  {}", output[index]);
    }
    Ok(())
}

fn main() {
    let mut paths: Vec<String> = env::args().skip(1).collect();
    if paths.is_empty() {
        paths.push("../sample/input-0.npy".into());
    }
    if let Err(why) = infer(&paths) {
        eprintln!("infer: {why}");
        process::exit(1);
    }
}

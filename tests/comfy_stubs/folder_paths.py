"""Stand-in for ComfyUI's `folder_paths`: where models, inputs and results lie. Tests set the folders."""

import os

supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
MODEL_FOLDERS = ("checkpoints", "vae", "upscale_models", "audio_encoders", "diffusion_models", "text_encoders")

base_path = os.path.dirname(os.path.realpath(__file__))
models_dir = os.path.join(base_path, "models")
output_directory = os.path.join(base_path, "output")
temp_directory = os.path.join(base_path, "temp")
input_directory = os.path.join(base_path, "input")
folder_names_and_paths = {
    name: ([os.path.join(models_dir, name)], supported_pt_extensions) for name in MODEL_FOLDERS
}  # fmt: skip
filename_list_cache = {}


def get_output_directory():
    return output_directory


def get_temp_directory():
    return temp_directory


def get_input_directory():
    return input_directory


def get_directory_by_type(type_name):
    return {"output": output_directory, "temp": temp_directory, "input": input_directory}.get(type_name)


def add_model_folder_path(folder_name, full_folder_path, is_default=False):
    """A name that was not there before gets an empty set of endings, which means any file."""
    paths, _ = folder_names_and_paths.setdefault(folder_name, ([], set()))
    if full_folder_path in paths:
        if not is_default:
            return
        paths.remove(full_folder_path)
    paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name):
    return list(folder_names_and_paths[folder_name][0])


def filter_files_extensions(files, extensions):
    return sorted(f for f in files if not extensions or os.path.splitext(f)[-1].lower() in extensions)


def get_filename_list(folder_name):
    """Files below the folders of that name, as paths relative to them, sorted."""
    paths, extensions = folder_names_and_paths[folder_name]
    found = set()
    for root in paths:
        for folder, _, files in os.walk(root, followlinks=True):
            found.update(os.path.relpath(os.path.join(folder, file), root) for file in files)
    return filter_files_extensions(found, extensions)


def get_full_path(folder_name, filename):
    """The file's path, or None; a name cannot lead out of the folder."""
    inside = os.path.relpath(os.path.join("/", filename), "/")
    paths = folder_names_and_paths.get(folder_name, ([], set()))[0]
    return next((p for p in (os.path.join(root, inside) for root in paths) if os.path.isfile(p)), None)


def annotated_filepath(name):
    for kind in ("output", "input", "temp"):
        if name.endswith(f"[{kind}]"):
            return name[: -len(kind) - 3], get_directory_by_type(kind)
    return name, None


def get_annotated_filepath(name, default_dir=None):
    name, folder = annotated_filepath(name)
    return os.path.join(folder or default_dir or get_input_directory(), name)


def get_save_image_path(filename_prefix, output_dir, image_width=0, image_height=0):
    """(folder, name, counter, subfolder, prefix) of the next file `name_counter_.*`; the folder is made."""
    subfolder, name = os.path.split(os.path.normpath(filename_prefix))
    folder = os.path.join(output_dir, subfolder)
    if os.path.commonpath((output_dir, os.path.abspath(folder))) != output_dir:
        raise Exception("Saving image outside the output folder is not allowed.")
    os.makedirs(folder, exist_ok=True)
    taken = [file[len(name) + 1 :].split("_")[0] for file in os.listdir(folder) if file.startswith(name + "_")]
    counter = max((int(digits) for digits in taken if digits.isdigit()), default=0) + 1
    return folder, name, counter, subfolder, filename_prefix

"""What each tool says of a model, by the words that it uses itself."""
import contextlib
import os
import re


def ours(model, inputs):
    """course-lib: everything with a formula for each row."""
    from course_lib import count_parameters
    table = count_parameters(model)
    names = ("total", "trainable", "buffers", "active")
    return {name: getattr(table, name) for name in names}, table


def torchinfo(model, inputs):
    """torchinfo without input."""
    from torchinfo import summary
    report = summary(model, verbose=0)
    return {"total": report.total_params, "trainable": report.trainable_params}, report


def torchinfo_with_inputs(model, inputs):
    """torchinfo with a forward pass on the model's own device."""
    from torchinfo import summary
    device = next((tensor.device for tensor in model.parameters()), "cpu")
    data = inputs if isinstance(inputs, dict) else list(inputs)
    report = summary(model, input_data=data, device=device, verbose=0)
    return {"total": report.total_params, "trainable": report.trainable_params}, report


def fvcore(model, inputs):
    """fvcore's parameter_count and the table it makes."""
    from fvcore.nn import parameter_count
    counts = parameter_count(model)
    return {"total": counts[""]}, counts


def lightning(model, inputs):
    """Lightning's ModelSummary of a module that holds the model."""
    from lightning.pytorch import LightningModule
    from lightning.pytorch.utilities.model_summary import ModelSummary
    module = LightningModule()
    module.model = model
    report = ModelSummary(module, max_depth=-1)
    return {"total": report.total_parameters, "trainable": report.trainable_parameters}, report


def calflops(model, inputs):
    """calflops, which runs the model and reports "Total Training Params"."""
    from calflops import calculate_flops
    how = {"kwargs": inputs} if isinstance(inputs, dict) else {"args": list(inputs)}
    _, _, params = calculate_flops(model, print_results=False, output_as_string=False, **how)
    return {"trainable": params}, params


def keras_summary(model, inputs):
    """The lines below Keras's own model.summary()."""
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line), line_length=200)
    text = "\n".join(lines)

    def read(label):
        found = re.search(rf"{label} params:\s*([\d,]+)", text)
        return int(found.group(1).replace(",", "")) if found else None

    return {"total": read("Total"), "trainable": read("(?<!-)Trainable")}, text


def keras_count_params(model, inputs):
    """Keras's model.count_params()."""
    return {"total": model.count_params()}, None


NEEDS_INPUTS = {"torchinfo, with input", "calflops"}
TOOLS = {
    "torch": {"course-lib": ours, "torchinfo": torchinfo,
              "torchinfo, with input": torchinfo_with_inputs, "fvcore": fvcore,
              "lightning": lightning, "calflops": calflops},
    "keras": {"course-lib": ours, "keras summary": keras_summary,
              "keras count_params": keras_count_params},
}


@contextlib.contextmanager
def silence():
    """Send what tools print, from C++ too, nowhere."""
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, copy in zip((1, 2), kept):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)

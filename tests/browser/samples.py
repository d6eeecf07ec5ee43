"""Small notebooks on which the browser tests prove themselves."""
import nbformat

KERNEL = {"display_name": "python3", "language": "python", "name": "python3"}
EXPLORER = '''
import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import HTML, display

@widgets.interact(width=(1, 9))
def explore(width=3):
    display(HTML(f"<table><tr><td>{width} x 10 = {width * 10}</td></tr></table>"))
    plt.bar(["weights"], [width * 10])
    plt.show()
'''
SAMPLES = {
    "explorer": ["x = 1\nx", EXPLORER],
    "stuck": [EXPLORER.replace("weights\"], [width * 10]", "weights\"], [10]")],
    "error": ["x = 1", "1 / 0", "y = 2"],
    "outside": ["from IPython.display import HTML\nHTML('<img src=\"http://192.0.2.1/a.png\">')"],
}


def write_samples(folder):
    """Write each sample as a notebook."""
    for name, sources in SAMPLES.items():
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
        nbformat.write(notebook, folder / f"{name}.ipynb")

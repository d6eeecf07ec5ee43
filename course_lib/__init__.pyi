"""Types of the public face, which the package itself fetches lazily."""
from .anatomy.depth import DepthReport as DepthReport
from .anatomy.depth import measure_depth as measure_depth
from .anatomy.flops import count_flops as count_flops
from .anatomy.memory import MemoryReport as MemoryReport
from .anatomy.memory import estimate_memory as estimate_memory
from .anatomy.model_sources import model_names as model_names
from .anatomy.parameters import ParameterTable as ParameterTable
from .anatomy.parameters import compare as compare
from .anatomy.parameters import count_parameters as count_parameters
from .anatomy.roles import RoleReport as RoleReport
from .anatomy.roles import role_shares as role_shares

__version__: str

"""Public names for editors and type checkers; ``calc/__init__.py`` says where each lives."""

from calc.economics.cost import usd_per_mtok as usd_per_mtok
from calc.economics.prices import all_prices as all_prices
from calc.economics.prices import device_price as device_price
from calc.estimate import SLO as SLO
from calc.estimate import Estimate as Estimate
from calc.estimate import estimate as estimate
from calc.explain import Explanation as Explanation
from calc.explain import explain as explain
from calc.planning.launch import launch_command as launch_command
from calc.planning.search import Plan as Plan
from calc.planning.search import plan as plan
from calc.specs.deployment import Deployment as Deployment
from calc.specs.device import Device as Device
from calc.specs.device import device_ids as device_ids
from calc.specs.device import load_device as load_device
from calc.specs.engine import engine_ids as engine_ids
from calc.specs.engine import load_engine as load_engine
from calc.specs.errors import SpecError as SpecError
from calc.specs.errors import unknown_name as unknown_name
from calc.specs.model import Model as Model
from calc.specs.model_files import load_model as load_model
from calc.specs.model_files import model_ids as model_ids
from calc.specs.quantization import KV_BYTES as KV_BYTES
from calc.specs.quantization import WEIGHT_FORMATS as WEIGHT_FORMATS
from calc.specs.units import (
    format_bytes as format_bytes,
)
from calc.specs.units import (
    format_seconds as format_seconds,
)
from calc.specs.units import (
    parse_bytes as parse_bytes,
)
from calc.specs.units import (
    parse_seconds as parse_seconds,
)
from calc.specs.units import (
    parse_tokens as parse_tokens,
)
from calc.specs.units import (
    significant as significant,
)
from calc.specs.workload import Workload as Workload
from calc.timing.calibration import load_calibration as load_calibration
from calc.timing.roofline import op_time_s as op_time_s
from calc.timing.roofline import roofline_time_s as roofline_time_s
from calc.work.finetuning import FineTuning as FineTuning
from calc.work.finetuning import FinetuningMemory as FinetuningMemory
from calc.work.finetuning import finetuning_memory as finetuning_memory
from calc.work.memory import cache_bytes_per_token as cache_bytes_per_token
from calc.work.memory import kv_cache_bytes as kv_cache_bytes
from calc.work.parameters import (
    active_parameters as active_parameters,
)
from calc.work.parameters import (
    parameter_counts as parameter_counts,
)
from calc.work.parameters import (
    total_parameters as total_parameters,
)

__version__: str

"""Which parts of a network plans compute: found by ``torch.fx`` where it can follow the network, module by module elsewhere."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import operator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ._fused import Convolution, FusedConv2d, has_hooks
from ._operator import Activation

LOG = logging.getLogger("depthwise.torch")


@dataclass(frozen=True)
class Entry:
    """What was done with a convolution, or with a module that could not be followed."""

    name: str
    """Where it is in the network; both, of a separable pair."""
    replaced: bool
    what: str
    """What the plan computes, or why there is none."""

    def __str__(self) -> str:
        return f"{self.name}: {'by a plan' if self.replaced else 'kept'}: {self.what}"


@dataclass
class Report:
    """What ``optimize`` did."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def replaced(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.replaced]

    @property
    def kept(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.replaced]

    def add(self, name: str, replaced: bool, what: str) -> None:
        self.entries.append(Entry(name, replaced, what))
        LOG.debug("%s", self.entries[-1])

    def __str__(self) -> str:
        lines = [str(entry) for entry in self.entries]
        return "\n".join([*lines, f"{len(self.replaced)} by a plan, {len(self.kept)} kept"])


def optimize(
    module: nn.Module, *, example: Tensor | None = None, channels_last: bool | None = None
) -> nn.Module:
    """A copy of the module, for inference, in which plans compute the convolutions.

    A plan takes over a convolution with what follows it: batch normalisation, the addition of a residual, an activation; and a depthwise
    with the pointwise convolution after it. Everything else stays as it is. So do class, attributes and ``state_dict``; weights can be loaded
    later too. Its attribute ``depthwise_report`` says what was replaced, and what not, and why; the logger ``depthwise.torch`` says it at debug
    level.
    Parameters of the copy need no gradients. In training mode, and for what plans do not compute, it computes as before.

    With an ``example``, an input, both modules compute it, and the results must agree. Layers can be left out that way which look at
    their input in ways that ``torch.fx`` cannot see.

    Outputs of plans are in channels-last format if the input is, or the weights are, as PyTorch's convolutions have it. ``channels_last``
    overrides what is found of the weights. That format is the faster one.

    Optimise last: what the module's code looks at, such as flags and the modules that it is made of, must not change afterwards, but
    parameters may.

    Raises ``ValueError`` if the module, or a module in it, is in training mode, or if the results of the example differ.
    """
    for name, part in module.named_modules():
        if part.training:
            raise ValueError(
                f"{name or 'the module'} is in training mode, in which batch norm and dropout compute otherwise: "
                "call `.eval()` on the module first"
            )
    optimized = copy.deepcopy(module).requires_grad_(False)
    for part in optimized.modules():
        if isinstance(getattr(part.__dict__.get("forward"), "__self__", None), Forward):
            # It was optimised before.
            del part.__dict__["forward"]
    if channels_last is None:
        channels_last = any(
            isinstance(part, nn.Conv2d)
            and part.weight.is_contiguous(memory_format=torch.channels_last)
            and not part.weight.is_contiguous()
            for part in optimized.modules()
        )
    conversion = Conversion(channels_last)
    conversion.convert(optimized, "")
    optimized.__dict__["depthwise_report"] = conversion.report
    if example is not None:
        check(module, optimized, example)
    return optimized


def check(module: nn.Module, optimized: nn.Module, example: Tensor) -> None:
    """Raises ``ValueError`` if the modules' results differ by more than rounding."""
    with torch.no_grad():
        expected, found = (leaves(each(example.clone())) for each in (module, optimized))
    if len(expected) != len(found):
        raise ValueError(f"the optimised module returns {len(found)} tensors for the example, and the original {len(expected)}")
    for a, b in zip(expected, found):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise ValueError(f"the optimised module returns {b.dtype} of {b.shape}, and the original {a.dtype} of {a.shape}")
        largest = a.double().abs().nan_to_num(posinf=0.0).max().item() if a.numel() else 0.0
        if not torch.allclose(a, b, rtol=0.0, atol=1e-4 * largest, equal_nan=True):
            difference = (a.double() - b.double()).abs().max().item()
            raise ValueError(
                f"the optimised module's result for the example differs by {difference:.3g} from the original's, whose "
                f"largest value is {largest:.3g}: parts of it look at their input in ways that torch.fx cannot see"
            )


def leaves(value: Any) -> list[Tensor]:
    """The tensors in a result."""
    found = torch.utils._pytree.tree_leaves(value)
    return [leaf for leaf in found if isinstance(leaf, Tensor)]


class Proxy(fx.Proxy):
    """A value while a network is followed. What is done in place stays in place, as other names may hold the value."""


def in_place(function: Any) -> Any:
    return lambda proxy, other: proxy.tracer.create_proxy("call_function", function, (proxy, other), {})


for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "iand", "ior", "ixor", "ilshift", "irshift"):
    setattr(Proxy, f"__{name}__", in_place(getattr(operator, name)))


class Tracer(fx.Tracer):
    """Follows a network, through its modules but those that it is told to leave whole."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Proxy(node, self)

    def __init__(self, opaque: set[nn.Module]) -> None:
        super().__init__()
        self.opaque = opaque
        self.autocast = torch.is_autocast_enabled("cpu")

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if torch.is_autocast_enabled("cpu") != self.autocast:
            raise ValueError("it switches autocast on or off")
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self.opaque or has_hooks(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Retry:
            raise
        except Exception as error:
            # The innermost module that cannot be followed. The next try leaves it whole.
            if m not in self.opaque:
                self.opaque.add(m)
                raise Retry from error
            raise


class Retry(Exception):
    """A module has become opaque."""


def sentence(error: BaseException) -> str:
    """An error's first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Forward:
    """What a module's ``forward`` is replaced by: the graph, or in training mode what it was."""

    def __init__(self, module: nn.Module, graph: nn.Module) -> None:
        self.module = module
        self.graph = graph

    # A method, as what exports programs looks at the code of a `forward`.
    def run(self, *args: Any, **kwargs: Any) -> Any:
        if self.module.training:
            for part in self.graph.modules():
                if isinstance(part, FusedConv2d):
                    part.forget()
            return type(self.module).forward(self.module, *args, **kwargs)
        return self.graph(*args, **kwargs)


class Attribute(nn.Module):
    """A tensor of a module that the graph reads, wherever it is by then."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        super().__init__()
        self.owner = (owner,)
        self.name = name
        self.eval()

    def forward(self) -> Tensor:
        return getattr(self.owner[0], self.name)


class Conversion:
    """One call of ``optimize``."""

    def __init__(self, channels_last: bool) -> None:
        self.channels_last = channels_last
        self.report = Report()
        self.done: set[nn.Module] = set()

    def convert(self, module: nn.Module, name: str) -> None:
        """Replaces what can be replaced in a module that is called as a whole."""
        if module in self.done:
            return
        self.done.add(module)
        if isinstance(module, nn.Conv2d):
            self.convert_alone(module, name)
            return
        if isinstance(module, (fx.GraphModule, torch.jit.ScriptModule)) or not any(
            isinstance(part, nn.Conv2d) for part in module.modules()
        ):
            return
        why, traced = self.trace(module)
        if traced is None:
            if not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
                self.report.add(name or "the module", False, f"its own code cannot be followed: {why}; its parts are looked at one by one")
            for child, part in module.named_children():
                self.convert(part, f"{name}.{child}" if name else child)
            return
        graph, opaque = traced
        names = {part: f"{name}.{child}" if name and child else name or child for child, part in module.named_modules()}
        Fusion(self, module, graph, names).run()
        for part in opaque:
            self.convert(part, names[part])

    def convert_alone(self, conv: nn.Conv2d, name: str) -> None:
        """Replaces a convolution, of which nobody knows what follows it."""
        found = Convolution(conv)
        why = found.refusal()
        if why is None:
            fused = FusedConv2d([found], self.channels_last)
            try:
                fused.pack()
            except ValueError as error:
                why = str(error)
            else:
                # Not registered: the convolution stays what it is, but for how it computes.
                conv.__dict__["forward"] = Forward(conv, fused).run
        self.report.add(name, why is None, str(found) if why is None else why)

    def trace(self, module: nn.Module) -> tuple[str, tuple[fx.Graph, list[nn.Module]] | None]:
        """The graph of a module, and the modules in it that could not be followed; or why there is none."""
        if has_hooks(module):
            return "it has hooks, or a forward of its own", None
        why = takes_one_input(module)
        if why is not None:
            return why, None
        opaque: set[nn.Module] = set()
        while True:
            before = attributes(module)
            tracer = Tracer(opaque)
            try:
                graph = tracer.trace(module)
            except Retry:
                forget_constants(module)
                continue
            except Exception as error:
                forget_constants(module)
                return sentence(error), None
            if forget_constants(module):
                return "it makes tensors of its own, which may differ from call to call", None
            if attributes(module) != before:
                return "it changes attributes of its own", None
            called = {node.target for node in graph.nodes if node.op == "call_module"}
            parts = dict(module.named_modules(remove_duplicate=False))
            # In the order of the module, whatever that of the set.
            met = [part for target, part in parts.items() if target in called]
            whole = [part for part in met if part in opaque or (has_hooks(part) and not isinstance(part, nn.Conv2d))]
            return "", (graph, whole)


def takes_one_input(module: nn.Module) -> str | None:
    """Why a module's forward may do otherwise than when it is followed with one input, if so."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    plain = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty]
    if len(parameters) == len(plain) == 1:
        return None
    return f"it takes {len(parameters)} arguments, or ones with defaults, and only modules with one input are followed"


def attributes(module: nn.Module) -> list[tuple[int, str, int]]:
    """The identity of each attribute of each module in it."""
    return [
        (id(part), key, id(value))
        for part in module.modules()
        for key, value in vars(part).items()
        if not key.startswith("_tensor_constant")
    ]


def forget_constants(module: nn.Module) -> bool:
    """Removes what ``torch.fx`` put into the module for tensors that its code makes. Whether there were any."""
    found = [key for key in vars(module) if key.startswith("_tensor_constant")]
    for key in found:
        delattr(module, key)
    return bool(found)


class Fusion:
    """The search of one graph."""

    def __init__(self, conversion: Conversion, module: nn.Module, graph: fx.Graph, names: dict[nn.Module, str]) -> None:
        self.conversion = conversion
        self.module = module
        self.graph = graph
        self.names = names
        self.parts = dict(module.named_modules(remove_duplicate=False))
        # What the graph calls, by target.
        self.root: dict[str, nn.Module] = {}
        self.fused: dict[fx.Node, FusedConv2d] = {}

    def run(self) -> None:
        for node in list(self.graph.nodes):
            if is_identity(node, self.called(node)):
                node.replace_all_uses_with(node.args[0])
                self.graph.erase_node(node)
        for node in list(self.graph.nodes):
            if isinstance(self.called(node), nn.Conv2d):
                self.fuse(node)
            elif node.target in (F.conv2d, torch.conv2d):
                self.report.add(node.name, False, "its weights are not those of a module")
        for node in list(self.fused):
            self.join(node)
        for fused in self.fused.values():
            names = " + ".join(self.names[each.convolution] for each in fused.convolutions)
            text = "; ".join(str(each) for each in fused.convolutions)
            self.report.add(names, True, text + (", residual" if fused.adds_residual else ""))
        if self.fused:
            self.install()

    @property
    def report(self) -> Report:
        return self.conversion.report

    def called(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls."""
        return self.parts.get(node.target) if node.op == "call_module" else None

    def fuse(self, node: fx.Node) -> None:
        """Replaces a convolution, and what follows it."""
        conv = self.called(node)
        assert isinstance(conv, nn.Conv2d)
        found = Convolution(conv)
        why = found.refusal()
        if why is None and (len(node.args) != 1 or node.kwargs):
            why = "it is called in an unusual way"
        if why is None:
            why = self.pack(FusedConv2d([found], self.conversion.channels_last))
        if why is not None:
            self.report.add(self.names[conv], False, why)
            return
        last, residual = node, None
        chain = [node]
        following = self.following(last)
        norm = None if following is None else self.called(following)
        if following is not None and isinstance(norm, nn.BatchNorm2d) and is_plain(following):
            refused = found.norm_refusal(norm)
            if refused is None:
                found.norm, last = norm, following
                # Its variance may have no root.
                if self.pack(FusedConv2d([found], self.conversion.channels_last)) is None:
                    chain.append(following)
                else:
                    found.norm, last = None, node
                following = self.following(last)
        if following is not None and (other := addend(following, last)) is not None:
            residual, last = other, following
            chain.append(following)
            following = self.following(last)
        if following is not None and following.args and following.args[0] is last:
            activation = activation_of(following, self.called(following))
            if activation is not None:
                found.activation = activation
                chain.append(following)
        fused = FusedConv2d([found], self.conversion.channels_last)
        why = self.pack(fused)
        if why is not None:
            self.report.add(self.names[conv], False, why)
            return
        self.replace(fused, node.args[0], residual, chain)

    def pack(self, fused: FusedConv2d) -> str | None:
        """Builds the plan. Why there is none, if so."""
        try:
            fused.pack()
        except ValueError as error:
            return str(error)
        return None

    def following(self, node: fx.Node) -> fx.Node | None:
        """The node that alone uses what this one computes, if nothing before it may write where the convolution reads."""
        if len(node.users) != 1:
            return None
        [user] = node.users
        between = node.next
        while between is not user:
            if between.op == "root" or writes(between, self.called(between)):
                return None
            between = between.next
        return user

    def replace(self, fused: FusedConv2d, x: Any, residual: Any, chain: list[fx.Node]) -> None:
        """Puts a call where the last node of a chain is."""
        target = f"depthwise_{len(self.root)}"
        self.root[target] = fused
        self.parts[target] = fused
        last = chain[-1]
        fused.adds_residual = residual is not None
        with self.graph.inserting_before(last):
            call = self.graph.call_module(target, (x,) if residual is None else (x, residual))
        last.replace_all_uses_with(call)
        for node in reversed(chain):
            self.graph.erase_node(node)
            self.fused.pop(node, None)
        self.fused[call] = fused

    def join(self, node: fx.Node) -> None:
        """Replaces a depthwise convolution and the pointwise one that follows it."""
        first = self.fused.get(node)
        if first is None or len(node.args) != 1 or not first.convolutions[0].is_depthwise():
            return
        following = self.following(node)
        second = None if following is None else self.fused.get(following)
        if following is None or second is None:
            return
        if [arg is node for arg in following.args] != [True] + [False] * (len(following.args) - 1):
            return
        if not second.convolutions[0].is_pointwise():
            return
        fused = FusedConv2d([*first.convolutions, *second.convolutions], self.conversion.channels_last)
        if self.pack(fused) is None:
            self.replace(fused, node.args[0], following.args[1] if len(following.args) > 1 else None, [node, following])

    def install(self) -> None:
        """Makes the graph what the module computes."""
        for node in list(self.graph.nodes):
            if node.op == "get_attr":
                owner, _, name = node.target.rpartition(".")
                owner = self.module.get_submodule(owner)
                if isinstance(getattr(owner, name), nn.Module):
                    continue
                target = f"attribute_{len(self.root)}"
                self.root[target] = Attribute(owner, name)
                with self.graph.inserting_before(node):
                    call = self.graph.call_module(target)
                node.replace_all_uses_with(call)
                self.graph.erase_node(node)
        for node in self.graph.nodes:
            if node.op in ("call_module", "get_attr") and node.target not in self.root:
                self.root[node.target] = self.parts[node.target]
        self.graph.lint()
        # Programs are unpickled by PyTorch's own.
        self.graph._tracer_cls = None
        graph = fx.GraphModule(self.root, self.graph, type(self.module).__name__)
        graph.eval()
        self.module.__dict__["forward"] = Forward(self.module, graph).run


def is_plain(node: fx.Node) -> bool:
    """Whether it has one argument."""
    return len(node.args) == 1 and not node.kwargs


def is_identity(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether it returns its argument in evaluation mode, whatever anyone does to modules."""
    if type(module) is nn.Identity and not has_hooks(module):
        return is_plain(node)
    # torchvision's, called with the flag of training mode.
    if node.op == "call_function" and getattr(node.target, "__name__", "") == "stochastic_depth":
        training = node.kwargs.get("training", node.args[3] if len(node.args) > 3 else True)
        return bool(node.args) and training is False
    return False


def writes(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether it may write to what it is given."""
    if node.op == "call_module":
        assert module is not None
        known = type(module).__module__.startswith("torch.nn.") and not has_hooks(module) or isinstance(module, FusedConv2d)
        return not known or bool(getattr(module, "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") or node.target == "__setitem__" or "out" in node.kwargs
    if node.op == "call_function":
        if node.kwargs.get("inplace") or "out" in node.kwargs or any(value is True for value in node.args[1:]):
            return True
        name = getattr(node.target, "__name__", "_")
        module_name = getattr(node.target, "__module__", "") or ""
        if module_name in ("_operator", "operator"):
            return name in ("setitem", "delitem") or (name.startswith("i") and name not in ("invert", "index", "inv", "is_", "is_not"))
        known = module_name.startswith("torch") or module_name in ("builtins", "math")
        known = known or getattr(torch, name, None) is node.target or getattr(torch._C._nn, name, None) is node.target
        return name.endswith("_") or not known
    return False


def addend(node: fx.Node, value: fx.Node) -> fx.Node | None:
    """What a node adds to a value, if it adds two tensors."""
    function = node.op == "call_function" and node.target in (operator.add, operator.iadd, torch.add)
    method = node.op == "call_method" and node.target in ("add", "add_")
    if not (function or method) or len(node.args) != 2 or node.kwargs:
        return None
    first, second = node.args
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or first is second:
        return None
    # One that is added to in place, and is not the value, may be used elsewhere.
    if first is not value and (node.target in (operator.iadd, "add_")):
        return None
    return second if first is value else first


MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Tanh: "tanh",
}
FUNCTIONS: dict[Any, str] = {
    F.relu: "relu",
    F.relu_: "relu",
    torch.relu: "relu",
    torch.relu_: "relu",
    F.relu6: "relu6",
    F.hardswish: "hardswish",
    F.hardsigmoid: "hardsigmoid",
    torch.sigmoid: "sigmoid",
    F.sigmoid: "sigmoid",
    F.silu: "silu",
    F.mish: "mish",
    torch.tanh: "tanh",
    F.tanh: "tanh",
}
PARAMETERS: dict[Any, tuple[str, ...]] = {
    F.hardtanh: ("min_val", "max_val", "inplace"),
    F.hardtanh_: ("min_val", "max_val"),
    F.leaky_relu: ("negative_slope", "inplace"),
    F.leaky_relu_: ("negative_slope",),
    F.gelu: ("approximate",),
}
METHODS: dict[Any, str] = {"relu": "relu", "relu_": "relu", "sigmoid": "sigmoid", "sigmoid_": "sigmoid", "tanh": "tanh", "tanh_": "tanh"}


def activation_of(node: fx.Node, module: nn.Module | None) -> Activation | None:
    """The activation that a node is."""
    if module is not None:
        return None if has_hooks(module) or not is_plain(node) else activation_of_module(module)
    if node.op not in ("call_function", "call_method") or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    others, keywords = list(node.args[1:]), dict(node.kwargs)
    if node.op == "call_method":
        if node.target in METHODS:
            return None if others or keywords else METHODS[node.target]
        return clamp(others, keywords, ("min", "max")) if node.target in ("clamp", "clamp_", "clip", "clip_") else None
    if node.target in FUNCTIONS:
        # `inplace` is all that these take.
        return FUNCTIONS[node.target] if all(isinstance(each, bool) for each in (*others, *keywords.values())) else None
    if node.target in (torch.clamp, torch.clamp_, torch.clip):
        return clamp(others, keywords, ("min", "max"))
    given = {**keywords, **dict(zip(PARAMETERS.get(node.target, ()), others))}
    if node.target in (F.hardtanh, F.hardtanh_):
        return clamp([given.get("min_val", -1.0), given.get("max_val", 1.0)], {}, ("min", "max"))
    if node.target in (F.leaky_relu, F.leaky_relu_):
        return leaky(given.get("negative_slope", 0.01))
    if node.target is F.gelu:
        return "gelu" if given.get("approximate", "none") == "none" else None
    return None


def activation_of_module(module: nn.Module) -> Activation | None:
    kind = type(module)
    if kind in MODULES:
        return MODULES[kind]
    if kind is nn.Hardtanh:
        return clamp([module.min_val, module.max_val], {}, ("min_val", "max_val"))
    if kind is nn.LeakyReLU:
        return leaky(module.negative_slope)
    if kind is nn.GELU and module.approximate == "none":
        return "gelu"
    return None


def clamp(values: list[Any], keywords: dict[str, Any], names: tuple[str, str]) -> Activation | None:
    """The clamp between two numbers, if both are there and in order."""
    bounds = {**dict(zip(names, values)), **keywords}
    low, high = (bounds.pop(name, None) for name in names)
    if bounds or not all(isinstance(bound, (int, float)) and math.isfinite(bound) for bound in (low, high)):
        return None
    # Each must be a float32, as PyTorch compares in that type.
    return ("clamp", float(low), float(high)) if low <= high else None


def leaky(slope: Any) -> Activation | None:
    return ("leaky_relu", float(slope)) if isinstance(slope, (int, float)) and math.isfinite(slope) else None

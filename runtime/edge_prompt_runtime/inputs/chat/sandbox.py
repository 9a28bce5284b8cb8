"""The environment that chat templates run in: that of transformers, with limits on time and memory (see `bounds`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, wraps
from types import BuiltinMethodType
from typing import Any, cast

from jinja2 import Template, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, _PassArg
from jinja2.visitor import NodeTransformer

from edge_prompt_runtime.inputs.chat import bounds
from edge_prompt_runtime.inputs.chat.costs import count_filter, count_method

_ROUNDS, _CONCAT, _MADE, _SEEN = " rounds", " concat", " made", " seen"
"""Internal filters, with names that no template can contain."""


def compile_template(source: str) -> Template:
    """Compile the template in `source`."""
    environment = _environment()
    tree = _Counted().visit(environment.parse(source)).set_environment(environment)
    return environment.template_class.from_code(environment, environment.compile(tree), environment.make_globals(None))


def render_template(template: Template, variables: Mapping[str, Any]) -> str:
    """Render `template` within the limits."""
    bounds.start_budget()
    return template.render(variables)


@cache
def _environment() -> _BoundedEnvironment:
    environment = _BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension], finalize=_put_out
    )
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": _TemplateDict(),
        "namespace": TemplateNamespace,
    }
    del environment.globals["lipsum"]
    environment.filters["tojson"] = _tojson
    environment.filters = {name: _counted_filter(name, made) for name, made in environment.filters.items()}
    environment.filters[_ROUNDS] = _context_filter(bounds.Rounds)
    environment.filters[_CONCAT] = _context_filter(_concatenated)
    environment.filters[_MADE] = _context_filter(bounds.made)
    environment.filters[_SEEN] = _context_filter(_seen)
    return environment


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that counts calls and operators, and raises on access to a forbidden attribute, not on its use."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call(self, __context: Context, __obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call `__obj`, which counts as one step."""
        bounds.budget().step()
        if isinstance(__obj, LoopContext) and args:  # a recursive loop
            args = (bounds.Rounds(args[0]), *args[1:])
        if isinstance(__obj, BuiltinMethodType) and isinstance(__obj.__self__, str):
            count_method(__obj.__name__, __obj.__self__, args, kwargs)
        return bounds.made(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply one of `intercepted_binops`."""
        if operator == "%" and isinstance(left, str):
            bounds.require_widths(left, fields=False)
            bounds.budget().make(left.count("%") * bounds.size_of(right))
        elif operator == "*":
            bounds.require_product(left, right)
        elif operator == "**":
            bounds.require_power(left, right)
        return bounds.made(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Replace `str.format` by a version that counts, because a pattern may repeat a value many times."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        pattern: str = value.__self__
        bounds.require_widths(pattern, fields=True)

        def counted(*args: Any, **kwargs: Any) -> str:
            bounds.budget().make(pattern.count("{") * bounds.size_of(args, kwargs.values()))
            return wrapped(*args, **kwargs)

        return counted

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Raise an error, because a template may not see this attribute."""
        raise SecurityError(f"access to {attribute!r} of {type(obj).__name__}")


class _Counted(NodeTransformer):
    """Rewrites a template so that loops, concatenations, slices and comparisons are counted too."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        node.iter = _through(_ROUNDS, cast("nodes.Expr", node.iter))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _through(_CONCAT, nodes.List(node.nodes, lineno=node.lineno))

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _through(_MADE, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _through(_SEEN, node.expr)
        for operand in node.ops:
            operand.expr = _through(_SEEN, operand.expr)
        return node

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        return nodes.Const(node.data, lineno=node.lineno)


class _Generation(Extension):
    """`{% generation %}` marks answers of the assistant for training; here it has no effect."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's declaration

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("said"), [], [], body).set_lineno(line)

    def said(self, caller: Callable[[], str]) -> str:
        return caller()


class _TemplateDict:
    """`dict` for templates, without the class's own attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class TemplateNamespace(Namespace):
    """`namespace` for templates, without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, given = args[0], dict(*args[1:], **kwargs)  # allows a field named self
        for name in given:
            _require_public(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        """Set a field."""
        _require_public(name)
        super().__setitem__(name, value)


def _require_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"access to the field {name!r} of a namespace")


def _through(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _counted_filter(name: str, made: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that it is counted; it takes the context, so that it does not run at compile time."""
    passed = _PassArg.from_obj(made)

    @pass_context
    @wraps(made)
    def counted(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        if name == "join" and not isinstance(value, str | list | tuple | Mapping):
            value = list(value)
        count_filter(name, value, args, kwargs)
        first = {
            None: (),
            _PassArg.context: (context,),
            _PassArg.eval_context: (context.eval_ctx,),
            _PassArg.environment: (context.environment,),
        }[passed]
        return bounds.made(made(*first, value, *args, **kwargs))

    return counted


def _context_filter(function: Callable[[Any], Any]) -> Callable[[Context, Any], Any]:
    @pass_context
    def with_context(_context: Context, value: Any) -> Any:
        return function(value)

    return with_context


def _concatenated(parts: list[Any]) -> str:
    bounds.budget().make(bounds.size_of(parts))
    return "".join(map(str, parts))


def _seen(value: Any) -> Any:
    bounds.budget().look(value)
    return value


@pass_context
def _put_out(_context: Context, value: Any) -> Any:
    bounds.budget().make(len(value) if isinstance(value, str) else bounds.size_of(value))
    return value


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    bounds.require_widths(pattern, fields=False)
    return datetime.now().strftime(pattern)  # noqa: DTZ005 - local time, as in transformers


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - the signature of transformers
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

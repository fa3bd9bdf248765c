"""The networks of the flow head, behind one contract (`heads.experts.expert`): `expert: {kind: mlp | unet | dit | cross | joint}`."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from heads.denoisers import DenoiserConfig
from heads.experts.cross import Cross
from heads.experts.denoiser import DenoiserExpert
from heads.experts.expert import Expert, Seen
from heads.experts.joint import Joint
from heads.head import Output


def _mlp_if_not_said(value: Any) -> Any:
    return {"kind": "mlp"} | value if isinstance(value, dict) else value


ExpertConfig = Annotated[Cross.Config | Joint.Config | DenoiserConfig, Field(discriminator="kind"), BeforeValidator(_mlp_if_not_said)]


def make_expert(config: Any, output: Output) -> Expert:
    """The expert that `config`, one of `ExpertConfig`, describes."""
    makers = {"cross": Cross, "joint": Joint}
    return makers.get(config.kind, DenoiserExpert)(config, output)


__all__ = ["Cross", "DenoiserExpert", "Expert", "ExpertConfig", "Joint", "Seen", "make_expert"]

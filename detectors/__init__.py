"""Detectors: arrays of features -> scores, by small trainable networks."""

# Name on the command line -> module and class.
PLACES = {
    "knn": "knn:KNN",
    "motion_energy": "motion_energy:MotionEnergy",
    "background": "background:Background",
    "flow_peak": "flow_peak:FlowPeak",
    "tampering": "tampering:Tampering",
    "attribute_density": "attribute_density:AttributeDensity",
    "speed_peak": "speed_peak:SpeedPeak",
    "ssmtl": "ssmtl:SSMTL",
    "msmg": "msmg:MSMG",
    "mil_ranking": "mil_ranking:MILRanking",
    "rtfm": "rtfm:RTFM",
    "pseudo_anomaly": "pseudo_anomaly:PseudoAnomaly",
    "ssrl": "ssrl:SSRL",
}

__all__ = ["PLACES"]

"""Extractors: pixels -> arrays of features, by frozen networks on the fastest device at hand."""

# Name on the command line -> module and class.
PLACES = {
    "inception_i3d": "inception_i3d:InceptionI3DFeatures",
    "i3d_r50": "i3d_r50:I3DR50Features",
    "i3d_r50_ptv": "i3d_r50:I3DR50PtvFeatures",
    "video_swin": "video_swin:VideoSwinFeatures",
    "patch_cubes": "patch_cubes:PatchCubes",
    "vifi_clip": "vifi_clip:ViFiClipFeatures",
    "frames": "frames:Frames",
    "flow": "flow:Flow",
    "scene_checks": "scene_checks:SceneChecks",
    "perturb": "perturb:Perturb",
    "objects": "objects:Objects",
    "null": "null:NullFeatures",
}

__all__ = ["PLACES"]
